// headlens/tests: attribution against finite differences, exact ablation and completeness.
#include "headlens/analysis/attribution.h"

#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/hooks/interventions.h"
#include "retrieval_model.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;

AttributionOptions plain() {
  AttributionOptions options;
  options.log_odds = false;
  options.path = GradientPath::Clean;
  options.steps = 1;
  return options;
}

/// ln p of each right choice with the outputs of some heads scaled by `factor`.
std::vector<double> logprobs_scaled(const LanguageModel& model, const Objective& objective,
                                    const HeadList& heads, double factor, Placement placement) {
  const c10::NoGradGuard no_grad;
  std::vector<double> logprobs(static_cast<size_t>(objective.example_count()));
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective.batch(b);
    const auto tap = scale_heads(model.config(), heads, factor, {.placement = placement});
    ForwardOptions forward;
    forward.tap = tap.get();
    forward.logit_positions = batch.logit_positions;
    const auto verdicts = objective.judge(b, model.forward(batch.ids, forward), 1).front();
    for (size_t i = 0; i < verdicts.size(); ++i) {
      logprobs[static_cast<size_t>(batch.examples[i])] = verdicts[i].logprob;
    }
  }
  return logprobs;
}

size_t index_of(const AttributionResult& result, const HeadId& head) {
  const auto found = std::find(result.heads.begin(), result.heads.end(), head);
  EXPECT_NE(found, result.heads.end());
  return static_cast<size_t>(found - result.heads.begin());
}

/// A head of each mixer, at both placements where they differ.
std::vector<std::pair<HeadId, Placement>> some_heads(const ModelConfig& config) {
  std::vector<std::pair<HeadId, Placement>> heads;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    for (const HeadBank& bank : head_banks(config.layers[static_cast<size_t>(layer)])) {
      const int64_t head = bank.first + (layer + 1) % bank.count;
      heads.push_back({{layer, head, head}, Placement::PostNorm});
      if (bank.kind == LayerKind::Mamba2) {
        heads.push_back({{layer, head, head}, Placement::PreNorm});
      }
    }
  }
  return heads;
}

class AttributionTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, AttributionTest, ::testing::ValuesIn(kFamilies));

// d ln p / d factor at 1 of a head's outputs is what zeroing them is estimated by.
TEST_P(AttributionTest, IsTheSlopeOfScalingTheHead) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  for (const auto placement : {Placement::PostNorm, Placement::PreNorm}) {
    AttributionOptions options = plain();
    options.placement = placement;
    options.max_batch_tokens = 30;  // a layer's rows in several pieces
    const AttributionResult found = attribute(model, *objective, options);
    for (const auto& [head, place] : some_heads(model.config())) {
      if (place != placement) continue;
      const HeadList heads = {{head.layer, head.first, head.last}};
      const double step = 1e-6;
      const auto more = logprobs_scaled(model, *objective, heads, 1 + step, placement);
      const auto less = logprobs_scaled(model, *objective, heads, 1 - step, placement);
      const auto same = logprobs_scaled(model, *objective, heads, 1, placement);
      const auto row = static_cast<Eigen::Index>(index_of(found, head));
      double mean = 0;
      for (size_t e = 0; e < more.size(); ++e) {
        const double slope = (more[e] - less[e]) / (2 * step);
        // Read off the log-odds, as the task has it.
        EXPECT_NEAR(found.logprob[static_cast<Eigen::Index>(e)], same[e], 1e-9);
        // Central differences err by step^2 times the third derivative, and by rounding / step.
        EXPECT_NEAR(found.drops(row, static_cast<Eigen::Index>(e)), slope,
                    1e-6 * std::max(1.0, std::abs(slope)))
            << head.layer << "." << head.first << " example " << e;
        mean += slope / static_cast<double>(more.size());
      }
      EXPECT_NEAR(found.mean_drop[row], mean, 1e-6 * std::max(1.0, std::abs(mean)));
    }
  }
}

/// A sum of integrated gradients over all heads of `layer` (or of all layers), by example.
Eigen::VectorXd summed(const AttributionResult& found, int64_t layer) {
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(found.drops.cols());
  for (size_t h = 0; h < found.heads.size(); ++h) {
    if (layer >= 0 && found.heads[h].layer != layer) continue;
    sum += found.drops.row(static_cast<Eigen::Index>(h)).transpose();
  }
  return sum;
}

class AttributionPathTest : public ::testing::TestWithParam<std::string> {};
// Of the others some change too fast next to ablated for two dozen points.
INSTANTIATE_TEST_SUITE_P(Families, AttributionPathTest,
                         ::testing::Values("llama", "mamba2", "falcon_h1"));

// The drops along a path sum to what ablating all heads on it does (completeness).
TEST_P(AttributionPathTest, DropsSumToWhatTheWholeDoes) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  AttributionOptions options = plain();
  options.steps = 24;
  for (const auto path : {GradientPath::AllHeads, GradientPath::OwnLayer}) {
    options.path = path;
    const int64_t layer = path == GradientPath::AllHeads ? -1 : model.layer_count() - 1;
    const AttributionResult found = attribute(model, *objective, options);
    HeadList heads;
    for (const HeadId& head : all_heads(model.config(), 1)) {
      if (layer < 0 || head.layer == layer) heads.push_back({head.layer, head.first, head.last});
    }
    if (heads.empty()) continue;
    const auto cut = logprobs_scaled(model, *objective, heads, 0, options.placement);
    const Eigen::VectorXd sum = summed(found, layer);
    for (Eigen::Index e = 0; e < sum.size(); ++e) {
      const double drop = found.logprob[e] - cut[static_cast<size_t>(e)];
      // The midpoint rule errs by 1 / 24^3 of the third derivative; goldens are smooth.
      EXPECT_NEAR(sum[e], drop, 5e-3 * std::max(1.0, std::abs(drop))) << e;
    }
  }
}

// The secant backward changes gradients, never the forward; and mean and resample ablation take
// away what they put in.
TEST_P(AttributionTest, EveryWayIsFiniteAndLeavesTheForwardAlone) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  const AttributionResult base = attribute(model, *objective, plain());
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    for (const auto rule : {BackwardRule::Slopes, BackwardRule::Secants}) {
      for (const bool grad_drop : {false, true}) {
        AttributionOptions options = plain();
        options.mode = mode;
        options.rule = rule;
        options.grad_drop = grad_drop;
        const AttributionResult found = attribute(model, *objective, options);
        EXPECT_EQ(found.logprob, base.logprob);
        EXPECT_TRUE(found.drops.allFinite());
        const bool same = mode == AblationMode::Zero && rule == BackwardRule::Slopes && !grad_drop;
        EXPECT_EQ(found.drops == base.drops, same);
        if (grad_drop) {
          EXPECT_GE(found.drops.minCoeff(), 0);
        }
      }
    }
  }
}

/// One attention layer without an MLP whose final norm sees next to nothing of what the heads
/// write: ln-odds are linear in the heads' outputs, but for the norm's scale.
LanguageModel linear_model() {
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = 2;
  config.d_model = 8;
  AttentionSpec attention;
  attention.heads = attention.kv_heads = 4;
  attention.d_head = 4;
  attention.scale = 0.5;
  config.layers = {{attention, {}}};
  InitOptions wide;
  wide.std = 0.4;
  auto weights = fresh_weights(config, 11, wide);
  weights.at("model.embed_tokens.weight").select(1, 0).fill_(1e4);  // what the norm sees
  weights.at("model.norm.weight").fill_(1e4);
  weights.at("model.layers.0.input_layernorm.weight")[0] = 1e-4;
  weights.at("model.layers.0.input_layernorm.weight").slice(0, 1).fill_(1e4);
  weights.at("model.layers.0.self_attn.o_proj.weight")[0].zero_();
  weights.at("lm_head.weight").mul_(20).select(1, 0).zero_();
  return LanguageModel::build(config,
                              WeightScope::from_map(std::move(weights), at::kDouble, at::kCPU));
}

std::vector<TokenizedExample> binary_examples() {
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < 12; ++i) {
    TokenizedExample example;
    for (int64_t p = 0; p < 3 + i % 4; ++p) example.prompt_ids.push_back((i + p * p) % 2);
    example.choice_ids = {{0}, {1}};
    example.answer = i % 2;
    examples.push_back(std::move(example));
  }
  return examples;
}

// Where the log-odds are linear in the heads the estimate is exact, for every mode.
TEST(Attribution, IsExactWhereTheLogOddsAreLinear) {
  const LanguageModel model = linear_model();
  const auto objective = objective_of(binary_examples());
  for (const auto mode : {AblationMode::Zero, AblationMode::Mean, AblationMode::Resample}) {
    AttributionOptions options;
    options.path = GradientPath::Clean;
    options.mode = mode;
    const AttributionResult found = attribute(model, *objective, options);
    SweepOptions sweep;
    sweep.mode = mode;
    const SweepResult exact = ablation_sweep(model, *objective, found.heads, sweep);
    double largest = 0;
    for (size_t h = 0; h < found.heads.size(); ++h) {
      for (size_t e = 0; e < exact.base.verdicts.size(); ++e) {
        const double drop = exact.base.verdicts[e].logprob - exact.variants[h].verdicts[e].logprob;
        // The norm's scale moves by (1e-4)^2 of itself.
        EXPECT_NEAR(found.drops(static_cast<Eigen::Index>(h), static_cast<Eigen::Index>(e)), drop,
                    1e-5);
        largest = std::max(largest, std::abs(drop));
      }
    }
    EXPECT_GT(largest, 0.05);  // they do something, beyond the slope of ln p
  }
}

// A Gather head writes the key that a saturated Aggregate head finds: its slope is nothing.
TEST(Attribution, SecantsSeeThroughASaturatedSoftmax) {
  const LanguageModel model = testing::RetrievalModel::make();
  const auto objective = objective_of(testing::retrieval_examples());
  AttributionOptions options;
  options.path = GradientPath::Clean;
  const auto drop_of = [&](const HeadId& head) {
    const AttributionResult found = attribute(model, *objective, options);
    return found.mean_drop[static_cast<Eigen::Index>(index_of(found, head))];
  };
  EXPECT_LT(std::abs(drop_of({0, 1, 1})), 1e-3);
  options.rule = BackwardRule::Secants;
  EXPECT_GT(drop_of({0, 1, 1}), 0.5);
  EXPECT_GT(drop_of({1, 0, 0}), 0.5);
  EXPECT_LT(std::abs(drop_of({0, 2, 2})), 1e-6);  // writes nothing
}

TEST(Attribution, ErrorsNameWhatIsWrong) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  const auto message = [&](const std::function<void(AttributionOptions&)>& change) {
    AttributionOptions options = plain();
    change(options);
    return error_message<UsageError>([&] { attribute(model, *objective, options); });
  };
  EXPECT_EQ(message([](auto& o) { o.steps = 0; }), "[attribute] steps, expected at least 1, got 0");
  EXPECT_EQ(message([](auto& o) { o.max_batch_tokens = 0; }),
            "[attribute] tokens a batch, expected at least 1, got 0");
  EXPECT_EQ(message([](auto& o) {
              o.grad_drop = true;
              o.path = GradientPath::OwnLayer;
            }),
            "[attribute] path, expected Clean with grad_drop, got another");
  EXPECT_EQ(message([](auto& o) { o.mode = AblationMode::Scale; }),
            "[ablate] mode, expected zero, mean or resample, got scale");
}

}  // namespace
}  // namespace headlens
