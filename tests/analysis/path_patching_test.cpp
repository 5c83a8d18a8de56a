// headlens/tests: path patching against hooks that do it step by step, and on a circuit by hand.
#include "headlens/analysis/path_patching.h"

#include <gtest/gtest.h>

#include <map>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::place_of;
using testing::retrieval_examples;
using testing::RetrievalModel;
using testing::unlike_examples;

using Edit = std::function<Tensor(const Tensor&)>;

/// Edits the sites it has an edit for and keeps what goes on from every site.
class StepTap final : public Tap {
 public:
  bool wants(TapPoint point) const override {
    switch (point.site) {  // large, and made only where somebody looks
      case Site::AttnScores:
      case Site::Pattern:
      case Site::Map:
      case Site::StateStart:
      case Site::Result:
        return false;
      default:
        return !site_is_read_only(point.site);
    }
  }
  Tensor visit(TapPoint point, Tensor value) override {
    const auto edit = edits.find(point);
    if (edit != edits.end()) value = edit->second(value);
    return seen[point] = value;
  }

  std::map<TapPoint, Edit> edits;
  std::map<TapPoint, Tensor> seen;
};

/// The receiver's inputs, by what they do, among the sites that fired.
struct InputSites {
  std::vector<TapPoint> stores, asks;
};
InputSites inputs_of(const StepTap& clean, const HeadBank& bank, int64_t layer) {
  const auto last = [&](std::vector<Site> sites) {
    TapPoint found{};
    for (const Site site : sites) {
      if (clean.seen.contains({site, layer})) found = {site, layer};
    }
    return found;
  };
  if (bank.kind == LayerKind::Attention) {
    return {{last({Site::K, Site::KNormed, Site::RotK}), {Site::V, layer}},
            {last({Site::Q, Site::QNormed, Site::RotQ})}};
  }
  const Site dt = bank.kind == LayerKind::DiscreteMamba2 ? Site::A : Site::Dt;
  return {{{Site::SsmInput, layer}, {dt, layer}, {Site::B, layer}},
          {{Site::C, layer}, {Site::Gate, layer}}};
}

/// Path patching of one example as the papers describe it, one forward a step.
class StepByStep {
 public:
  StepByStep(const LanguageModel& model, const TokenizedExample& example, PathOptions options)
      : model_(model), example_(example), options_(options) {
    run(clean_);
  }

  double logprob(const HeadId& sender, const HeadId& receiver, bool direct) {
    StepTap cut;
    cut_sender(cut, sender);
    if (direct) freeze(cut, sender, receiver.layer);
    run(cut);
    return patch(cut, receiver);
  }

  /// Everything behind the sender as it was, up to the logits.
  double logprob_of_answer(const HeadId& sender) {
    StepTap cut;
    cut_sender(cut, sender);
    freeze(cut, sender, model_.layer_count());
    return run(cut);
  }

 private:
  /// The sender's output away at its positions.
  void cut_sender(StepTap& cut, const HeadId& sender) const {
    const auto [point, own] = place_of(model_.config(), sender, options_.placement);
    cut.edits[point] = [&, own = own](const Tensor& outputs) {
      Tensor changed = outputs.clone();
      for (const Segment& s : example_.segments) {
        changed.select(1, s.end).slice(1, own.first, own.last + 1).zero_();
      }
      return changed;
    };
  }

  double run(StepTap& tap) { return evaluate(model_, {example_}, {16384, &tap, {}}).logprob[0]; }

  /// Puts back what every mixer and MLP writes from the sender's layer up to this one.
  void freeze(StepTap& cut, const HeadId& sender, int64_t receiving) {
    const bool attention = place_of(model_.config(), sender).point.site == Site::Z;
    for (int64_t layer = sender.layer; layer <= receiving; ++layer) {
      for (const Site site : {Site::AttnOut, Site::MixerOut, Site::MlpOut, Site::SharedOut}) {
        const TapPoint point{site, layer};
        const bool the_senders =
            layer == sender.layer && site == (attention ? Site::AttnOut : Site::MixerOut);
        const bool too_late = layer == receiving && site != Site::SharedOut;
        if (the_senders || too_late || !clean_.seen.contains(point)) continue;
        cut.edits[point] = [&, point](const Tensor&) { return clean_.seen.at(point); };
      }
    }
  }

  double patch(const StepTap& cut, const HeadId& receiver) {
    const auto& layer = model_.config().layers[static_cast<size_t>(receiver.layer)];
    const HeadBank bank = bank_of(layer, receiver.first);
    const InputSites inputs = inputs_of(clean_, bank, receiver.layer);
    StepTap fed;  // the receiver's mixer on the chosen inputs
    const auto feed = [&](const std::vector<TapPoint>& points, bool chosen) {
      for (const TapPoint point : points) {
        const Tensor put = (chosen ? cut : clean_).seen.at(point);
        fed.edits[point] = [put](const Tensor&) { return put; };
      }
    };
    feed(inputs.stores, options_.inputs != ReceiverInputs::Queries);
    feed(inputs.asks, options_.inputs != ReceiverInputs::KeysValues);
    run(fed);
    const auto [point, own] = place_of(model_.config(), receiver, options_.placement);
    if (bank.kind == LayerKind::Mamba2 && point.site == Site::MixerZ) {
      // The norm behind the scan sees the receiver's own heads change and no others.
      const TapPoint scan{Site::SsmOut, receiver.layer};
      StepTap normed;
      normed.edits = fed.edits;
      normed.edits[scan] = only(fed, scan, own);
      run(normed);
      return finish(normed, point, own);
    }
    return finish(fed, point, own);
  }

  /// The clean outputs with those of the receiver as `from` has them.
  Edit only(const StepTap& from, TapPoint point, const HeadId& own) {
    Tensor mixed = clean_.seen.at(point).clone();
    mixed.slice(2, own.first, own.last + 1)
        .copy_(from.seen.at(point).slice(2, own.first, own.last + 1));
    return [mixed](const Tensor&) { return mixed; };
  }
  double finish(const StepTap& from, TapPoint point, const HeadId& own) {
    StepTap last;
    last.edits[point] = only(from, point, own);
    return run(last);
  }

  const LanguageModel& model_;
  const TokenizedExample& example_;
  PathOptions options_;
  StepTap clean_;
};

/// The first and the last head of the last layer with heads, and of the last one with two mixers.
std::vector<HeadId> some_receivers(const ModelConfig& config) {
  std::vector<HeadId> chosen;
  bool plain = false, both = false;
  for (int64_t i = std::ssize(config.layers) - 1; i > 0; --i) {
    const LayerSpec& layer = config.layers[static_cast<size_t>(i)];
    bool& done = layer.attention ? both : plain;
    if (done || head_count(layer) == 0) continue;
    done = true;
    chosen.push_back({i, 0, 0});
    chosen.push_back({i, head_count(layer) - 1, head_count(layer) - 1});
  }
  return chosen;
}

/// A sender in the first layer; of Mamba-1 a third of the channels.
HeadId some_sender(const ModelConfig& config) {
  return all_heads(config, 3)[1];
}

std::vector<TokenizedExample> with_segments() {
  std::vector<TokenizedExample> examples = unlike_examples();
  return {examples[0], examples[2], examples[4]};  // 2 segments, 3 and none
}

void expect_as_step_by_step(const std::string& name, const PathOptions& options) {
  const LanguageModel model = load_model(name);
  const auto examples = with_segments();
  const HeadId sender = some_sender(model.config());
  const std::vector<HeadId> receivers = some_receivers(model.config());
  const PathPatching found =
      path_patching(model, *objective_of(examples), {sender}, receivers, options);
  std::vector<StepByStep> steps;
  for (const TokenizedExample& example : examples) steps.emplace_back(model, example, options);
  size_t at = 0;
  double largest = 0;
  for (const HeadId& receiver : receivers) {
    if (receiver.layer <= sender.layer) continue;
    const PairEffect& pair = found.pairs.at(at++);
    EXPECT_EQ(pair.receiver, receiver);
    for (const bool direct : {true, false}) {
      double expected = found.base.mean_logprob();
      for (StepByStep& step : steps) {
        expected -= step.logprob(sender, receiver, direct) / static_cast<double>(examples.size());
      }
      const Estimate& drop = (direct ? pair.direct : pair.total).logprob_drop;
      // float64, log-probabilities to -20
      EXPECT_NEAR(drop.value, expected, 1e-11) << receiver.layer << "." << receiver.first;
      largest = std::max(largest, std::abs(expected));
    }
  }
  EXPECT_EQ(at, found.pairs.size());
  EXPECT_GT(largest, 1e-7);
}

class PathTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, PathTest, ::testing::ValuesIn(kFamilies));

TEST_P(PathTest, EqualsHooksStepByStep) {
  for (const auto inputs :
       {ReceiverInputs::All, ReceiverInputs::KeysValues, ReceiverInputs::Queries}) {
    SCOPED_TRACE(static_cast<int>(inputs));
    PathOptions options;
    options.inputs = inputs;
    expect_as_step_by_step(GetParam(), options);
  }
}

// Only what a sender writes at judged positions goes straight to the logits.
TEST_P(PathTest, TheDirectPathToTheLogitsEqualsHooks) {
  const LanguageModel model = load_model(GetParam());
  std::vector<TokenizedExample> examples = with_segments();
  for (TokenizedExample& example : examples) {
    const int64_t last = std::ssize(example.prompt_ids) - 1;
    example.segments = {{0, 1}, {last, last}};
  }
  const HeadId sender = some_sender(model.config());
  const PathPatching found =
      path_patching(model, *objective_of(examples), {sender}, some_receivers(model.config()));
  double expected = found.base.mean_logprob();
  for (const TokenizedExample& example : examples) {
    StepByStep step(model, example, {});
    expected -= step.logprob_of_answer(sender) / static_cast<double>(examples.size());
  }
  ASSERT_EQ(found.answers.size(), 1U);
  EXPECT_EQ(found.answers[0].sender, sender);
  EXPECT_FALSE(found.answers[0].direct.of_receiver.has_value());
  EXPECT_GT(std::abs(expected), 1e-7);
  EXPECT_NEAR(found.answers[0].direct.logprob_drop.value, expected, 1e-11);
}

class PreNormPathTest : public PathTest {};
INSTANTIATE_TEST_SUITE_P(Families, PreNormPathTest,
                         ::testing::Values("mamba2", "nemotron_h", "falcon_h1", "zamba2"));

TEST_P(PreNormPathTest, EqualsHooksStepByStepBeforeTheNorm) {
  PathOptions options;
  options.placement = Placement::PreNorm;
  expect_as_step_by_step(GetParam(), options);
}

/// Of the circuit by hand: 0.1 writes to the keys that 1.0 looks for.
PathEffect written_by_hand(const HeadId& sender, ReceiverInputs inputs) {
  PathOptions options;
  options.inputs = inputs;
  const PathPatching found =
      path_patching(RetrievalModel::make(), *objective_of(retrieval_examples(), 50), {sender},
                    {{1, 0, 0}, {1, 3, 3}}, options);
  EXPECT_EQ(found.base.accuracy(), 1);
  EXPECT_FALSE(found.pairs[1].direct.of_receiver.has_value());  // 1.3 costs nothing
  EXPECT_NEAR(found.pairs[1].direct.logprob_drop.value, 0, 1e-12);
  const auto& [s, r, direct, total] = found.pairs[0];
  EXPECT_NEAR(direct.logprob_drop.value, total.logprob_drop.value, 1e-12);  // nothing is between
  return direct;
}

TEST(PathPatching, FindsThePairWrittenByHand) {
  const PathEffect stored = written_by_hand({0, 1, 1}, ReceiverInputs::KeysValues);
  // All of what 1.0 does, and all that the summaries do: without them it finds nothing to copy, and
  // writes the mean of all tokens, which is not quite the nothing of a cut.
  EXPECT_GT(stored.accuracy_drop.low, 0.3);
  EXPECT_NEAR(stored.of_sender->value, 1, 1e-9);
  EXPECT_GT(stored.of_receiver->low, 0.5);
  EXPECT_NEAR(written_by_hand({0, 1, 1}, ReceiverInputs::Queries).logprob_drop.value, 0, 1e-12);
  EXPECT_NEAR(written_by_hand({0, 1, 1}, ReceiverInputs::All).logprob_drop.value,
              stored.logprob_drop.value, 1e-12);
  EXPECT_NEAR(written_by_hand({0, 2, 2}, ReceiverInputs::All).logprob_drop.value, 0, 1e-12);
}

TEST(PathPatching, ResultsDoNotDependOnTheBatches) {
  const LanguageModel model = load_model("falcon_h1");
  const int64_t last = head_count(model.config().layers[1]) - 1;
  const std::vector<HeadId> heads = {{0, 0, 0}, {0, last, last}, {1, 1, 1}, {1, last, last}};
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    PathOptions options;
    options.mode = mode;
    const auto run = [&](int64_t row_tokens, int64_t batch_tokens) {
      options.max_batch_tokens = batch_tokens;
      return path_patching(model, *objective_of(unlike_examples(), row_tokens), heads, heads,
                           options);
    };
    const PathPatching large = run(4096, 100000), small = run(1, 1);
    ASSERT_EQ(large.pairs.size(), 4u);
    ASSERT_EQ(small.pairs.size(), large.pairs.size());
    for (size_t i = 0; i < large.pairs.size(); ++i) {
      EXPECT_NEAR(large.pairs[i].direct.logprob_drop.value,
                  small.pairs[i].direct.logprob_drop.value, 1e-11);
      EXPECT_NEAR(large.pairs[i].total.logprob_drop.high, small.pairs[i].total.logprob_drop.high,
                  1e-11);
    }
  }
}

TEST(PathPatching, RefusesWhatItCannotDo) {
  const LanguageModel model = load_model("zamba2");
  const auto objective = objective_of(unlike_examples());
  const auto hooked = [&](const HeadId& sender, const HeadId& receiver) {
    return error_message<HookError>(
        [&] { path_patching(model, *objective, {sender}, {receiver}); });
  };
  EXPECT_EQ(hooked({1, 5, 5}, {4, 0, 0}),
            "[pairs] sender 1.5, expected a head that writes to the residual, got one of a shared "
            "block's attention");
  EXPECT_EQ(hooked({1, 2, 5}, {4, 0, 0}),
            "[pairs] heads 2..5 of layer 1, expected those of one mixer, got two");
  EXPECT_EQ(hooked({0, 0, 0}, {4, 9, 9}), "[ablate] head, expected 0..7 in layer 4, got 9");
  EXPECT_EQ(error_message<UsageError>([&] {
              path_patching(model, *objective, {{4, 0, 0}}, {{4, 1, 1}, {0, 0, 0}});
            }),
            "[pairs] receivers, expected one in a layer behind a sender's, got none");
  const auto task = [&](const std::vector<TokenizedExample>& examples) {
    return error_message<TaskError>([&] {
      path_patching(model, *objective_of(examples), {{0, 0, 0}}, {{4, 1, 1}});
    });
  };
  const auto all = unlike_examples();
  EXPECT_EQ(task({all[3], all[4]}), "[pairs] segments of the task, expected some, got none");
  EXPECT_EQ(task({all[0]}), "[pairs] examples, expected at least 2, got 1");
  PathOptions options;
  options.mode = AblationMode::Scale;
  EXPECT_EQ(error_message<UsageError>([&] {
              path_patching(model, *objective, {{0, 0, 0}}, {{4, 1, 1}}, options);
            }),
            "[ablate] mode, expected zero, mean or resample, got scale");
  options.mode = AblationMode::Zero;
  options.positions = SenderPositions::All;  // needs no segments
  path_patching(model, *objective_of({all[3], all[4]}), {{0, 0, 0}}, {{4, 1, 1}}, options);
}

}  // namespace
}  // namespace headlens
