// headlens/tests: models of fewer layers against models built of those layers, and by hand.
#include "headlens/analysis/pruning.h"

#include <gtest/gtest.h>

#include <set>

#include "analysis/analysis_tools.h"
#include "analysis/retrieval_model.h"
#include "core/error_message.h"
#include "headlens/model/block.h"
#include "headlens/model/families.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::kFamilies;
using testing::load_model;
using testing::make_ids;
using testing::objective_of;
using testing::retrieval_examples;
using testing::RetrievalModel;
using testing::unlike_examples;

constexpr double kClose = 1e-10;  // float64, in batches of other sizes

/// The checkpoint read as if its config had only the first layers.
LanguageModel built_of_first_layers(const std::string& name, int64_t layers) {
  const auto checkpoint =
      std::make_shared<const Checkpoint>(Checkpoint::open(testing::model_dir(name)));
  ModelConfig config = parse_model_config(checkpoint->config_json());
  config.layers.resize(static_cast<size_t>(layers));
  return LanguageModel::build(config,
                              WeightScope::from_checkpoint(checkpoint, at::kDouble, at::kCPU));
}

std::set<const void*> storages(const LanguageModel& model) {
  std::set<const void*> all = {model.embedding().const_data_ptr(), model.lm_head().const_data_ptr(),
                               model.final_norm().weight().const_data_ptr()};
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    for (const Tensor& weight : model.block(layer).weights()) all.insert(weight.const_data_ptr());
  }
  return all;
}

class PruningTest : public ::testing::TestWithParam<std::string> {
 protected:
  LanguageModel model_ = load_model(GetParam());
  std::unique_ptr<Objective> objective_ = objective_of(unlike_examples());
};

TEST_P(PruningTest, AViewIsTheModelBuiltOfItsLayersAndCopiesNothing) {
  const Tensor ids = make_ids(2, 9);
  const std::set<const void*> own = storages(model_);
  for (int64_t layers = 0; layers <= model_.layer_count(); ++layers) {
    const LanguageModel view = first_layers(model_, layers);
    const LanguageModel built = built_of_first_layers(GetParam(), layers);
    EXPECT_TRUE(at::equal(view.forward(ids), built.forward(ids))) << layers;
    EXPECT_EQ(view.weight_bytes(), built.weight_bytes()) << layers;
    for (const void* storage : storages(view)) EXPECT_TRUE(own.contains(storage)) << layers;
    for (const void* copy : storages(built)) EXPECT_FALSE(own.contains(copy)) << layers;
  }
  EXPECT_EQ(first_layers(model_, model_.layer_count()).weight_bytes(), model_.weight_bytes());
}

/// The task on a model by itself, a whole forward a batch.
SweepOutcome plain(const LanguageModel& model, const std::vector<HeadId>& off = {},
                   Placement placement = Placement::PostNorm) {
  HeadList heads;
  for (const HeadId& head : off) heads.push_back({head.layer, head.first, head.last});
  const auto cut =
      heads.empty() ? nullptr : zero_heads(model.config(), heads, {.placement = placement});
  EvalOptions options;
  options.tap = cut.get();
  const auto scored = evaluate(model, unlike_examples(), options);
  SweepOutcome outcome;
  for (size_t i = 0; i < scored.correct.size(); ++i) {
    outcome.verdicts.push_back({scored.correct[i] != 0, scored.logprob[i], 0});
  }
  return outcome;
}

void expect_alike(const SweepOutcome& got, const SweepOutcome& expected) {
  ASSERT_EQ(got.verdicts.size(), expected.verdicts.size());
  for (size_t i = 0; i < got.verdicts.size(); ++i) {
    EXPECT_EQ(got.verdicts[i].correct, expected.verdicts[i].correct) << i;
    EXPECT_NEAR(got.verdicts[i].logprob, expected.verdicts[i].logprob, kClose) << i;
  }
}

TEST_P(PruningTest, TheCurveIsThatOfModelsOfFewerLayers) {
  const auto curve = depth_curve(model_, *objective_);
  ASSERT_EQ(std::ssize(curve), model_.layer_count() + 1);
  for (size_t depth = 0; depth < curve.size(); ++depth) {
    SCOPED_TRACE(depth);
    expect_alike(curve[depth], plain(first_layers(model_, static_cast<int64_t>(depth))));
  }
}

TEST_P(PruningTest, WithoutOneLayerIsTheModelOfTheOthers) {
  const auto without = leave_one_layer_out(model_, *objective_);
  ASSERT_EQ(std::ssize(without), model_.layer_count());
  for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
    SCOPED_TRACE(layer);
    std::vector<int64_t> others;
    for (int64_t i = 0; i < model_.layer_count(); ++i) {
      if (i != layer) others.push_back(i);
    }
    expect_alike(without[static_cast<size_t>(layer)], plain(model_.with_layers(others)));
  }
}

TEST_P(PruningTest, HeadsStayOffAtEveryDepthAndInTheContrast) {
  int64_t layer = 0;  // the first with heads
  while (head_count(model_.config().layers[static_cast<size_t>(layer)]) == 0) ++layer;
  PruneOptions options;
  options.off = {{layer, 1, 1}};
  const auto curve = depth_curve(model_, *objective_, options);
  const int64_t all = model_.layer_count();
  for (int64_t depth = layer + 1; depth <= all; ++depth) {
    SCOPED_TRACE(depth);
    expect_alike(curve[static_cast<size_t>(depth)],
                 plain(first_layers(model_, depth), options.off));
  }
  const HeadId more{layer, 0, 0};
  const auto rows = contrast(model_, layer + 1, {more}, {objective_.get()}, options);
  ASSERT_EQ(rows.size(), 3u);
  const LanguageModel minimal = first_layers(model_, layer + 1);
  expect_alike(rows[0].tasks[0], plain(model_, options.off));
  expect_alike(rows[1].tasks[0], plain(minimal, options.off));
  expect_alike(rows[2].tasks[0], plain(minimal, {options.off[0], more}));
}

INSTANTIATE_TEST_SUITE_P(Families, PruningTest, ::testing::ValuesIn(kFamilies),
                         [](const auto& row) { return row.param; });

/// The textbook circuit with its second layer twice: two layers are needed and the third repeats
/// the second.
class PruningByHand : public ::testing::Test {
 protected:
  LanguageModel model_ = RetrievalModel::make().with_layers({0, 1, 1});
  std::unique_ptr<Objective> objective_ = objective_of(retrieval_examples());

  static std::vector<double> accuracies(const std::vector<SweepOutcome>& outcomes) {
    std::vector<double> all;
    for (const SweepOutcome& one : outcomes) all.push_back(one.accuracy());
    return all;
  }
};

TEST_F(PruningByHand, TwoLayersAreNeeded) {
  // Where nothing is copied the model is right in one of four.
  const auto curve = depth_curve(model_, *objective_);
  EXPECT_EQ(accuracies(curve), (std::vector<double>{0.25, 0.25, 1, 1}));
  EXPECT_EQ(minimal_depth({curve}, {}), 2);
  EXPECT_EQ(minimal_depth({curve}, {.threshold = 0.2}), 0);
  EXPECT_EQ(minimal_depth({curve}, {.tolerance = 0.75}), 0);
  EXPECT_EQ(minimal_depth({curve}, {.tolerance = 0.74}), 2);
  EXPECT_EQ(minimal_depth({curve}, {.threshold = 1.01}), std::nullopt);
  // Either second layer will do; the first has no stand-in.
  EXPECT_EQ(accuracies(leave_one_layer_out(model_, *objective_)),
            (std::vector<double>{0.25, 1, 1}));
}

TEST_F(PruningByHand, TheMinimalModelRestsOnItsHeads) {
  const auto rows = contrast(model_, 2, {{0, 1, 1}, {1, 0, 0}}, {objective_.get()});
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].tasks[0].accuracy(), 1);
  EXPECT_EQ(rows[1].tasks[0].accuracy(), 1);
  EXPECT_EQ(rows[2].tasks[0].accuracy(), 0.25);
  EXPECT_EQ(rows[1].layers, 2);
  EXPECT_EQ(contrast(model_, 2, {}, {objective_.get()}).size(), 2u);
}

TEST(MinimalDepthTest, EveryTaskHasToBeDone) {
  const auto curve = [](const std::vector<int>& right) {
    std::vector<SweepOutcome> outcomes;
    for (const int n : right) {
      SweepOutcome outcome;
      for (int i = 0; i < 10; ++i) outcome.verdicts.push_back({i < n, 0, 0});
      outcomes.push_back(std::move(outcome));
    }
    return outcomes;
  };
  const auto early = curve({2, 9, 10, 10}), late = curve({0, 1, 5, 8});
  const DepthRule rule{.tolerance = 0.1001};
  EXPECT_EQ(minimal_depth({early}, rule), 1);
  EXPECT_EQ(minimal_depth({late}, rule), 3);
  EXPECT_EQ(minimal_depth({early, late}, rule), 3);
  // A dip on the way down does not matter: the smaller model does the task.
  EXPECT_EQ(minimal_depth({curve({2, 9, 3, 10})}, rule), 1);
  EXPECT_EQ(error_message<ShapeError>([&] {
              minimal_depth({early, curve({1})}, rule);
            }),
            "[prune] depths of a curve, expected 4, got 1");
  EXPECT_THROW(minimal_depth({}, rule), ShapeError);
}

TEST(PruningErrors, NameWhatIsNotThere) {
  const LanguageModel model = load_model("llama");
  EXPECT_EQ(error_message<ShapeError>([&] { first_layers(model, 9); }),
            "[prune] layers, expected 0 to " + std::to_string(model.layer_count()) + ", got 9");
  const auto objective = objective_of(unlike_examples());
  EXPECT_THROW(depth_curve(model, *objective, {.off = {{9, 0, 0}}}), HookError);
  EXPECT_THROW(contrast(model, 1, {{1, 0, 0}}, {objective.get()}), HookError);
}

}  // namespace
}  // namespace headlens
