// headlens/tests: what the tests of the analysis share: golden models, and a task of unlike
// examples.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/tasks/objective.h"
#include "headlens/tasks/scoring.h"
#include "hooks/hook_tools.h"

namespace headlens::testing {

/// Prompts of 1 to 12 tokens; choices of one token, and of several that need rows of their own;
/// no segments, or up to three, with and without a right one.
inline std::vector<TokenizedExample> unlike_examples() {
  std::vector<TokenizedExample> examples;
  const auto add = [&](int64_t length, std::vector<std::vector<int64_t>> choices, int64_t answer,
                       std::vector<Segment> segments) {
    TokenizedExample example;
    for (int64_t p = 0; p < length; ++p) {
      example.prompt_ids.push_back((p * p * 5 + p * 29 + length * 11) % 97);
      example.tokens.push_back(std::to_string(example.prompt_ids.back()));
    }
    example.choice_ids = std::move(choices);
    example.answer = answer;
    example.segments = std::move(segments);
    examples.push_back(std::move(example));
  };
  add(9, {{5}, {61}}, 1, {{0, 2}, {3, 6}});
  add(4, {{7, 8}, {7, 9, 10}, {11}}, 0, {{1, 2}});
  add(12, {{3}, {4, 5}, {6, 7, 8}, {4, 9}}, 3, {{2, 3}, {4, 4}, {5, 10}});
  add(1, {{1}, {2}}, 0, {});
  add(7, {{20}, {30}}, 1, {});
  add(6, {{40, 41}, {42, 43}}, 1, {{0, 1}, {2, 5}});
  return examples;
}

/// In several batches, of several examples or of one.
inline std::unique_ptr<Objective> objective_of(const std::vector<TokenizedExample>& examples,
                                               int64_t max_batch_tokens = 40) {
  return make_choice_objective(examples, max_batch_tokens);
}

/// The name of what a layer's Mamba mixer is called in the checkpoint: "..1.mamba.".
inline std::string mamba_scope(const std::string& model, int64_t layer) {
  const std::string part = "." + std::to_string(layer) + ".", end = "out_proj.weight";
  for (const std::string& name : Checkpoint::open(model_dir(model)).names()) {
    if (name.find(part) == std::string::npos || !name.ends_with(end)) continue;
    return name.substr(0, name.size() - end.size());
  }
  ADD_FAILURE() << "no Mamba mixer in layer " << layer << " of " << model;
  return {};
}

/// A golden model whose output projections do not read these heads.
inline LanguageModel without_columns(const std::string& name, const std::vector<HeadId>& heads) {
  const LanguageModel model = changed_model(name, [](auto&) {});
  for (const HeadId& head : heads) {
    for (int64_t h = head.first; h <= head.last; ++h) {
      model.head_output_weight(head.layer, h).zero_();
    }
  }
  return model;
}

/// The first four layers: what more of them make of the rounding of half precision is no test.
inline LanguageModel first_layers(const LanguageModel& model) {
  std::vector<int64_t> layers(static_cast<size_t>(std::min<int64_t>(4, model.layer_count())));
  std::iota(layers.begin(), layers.end(), 0);
  return model.with_layers(layers);
}

/// Where the outputs of a head, or of a group within one mixer, are, and its numbers there.
struct HeadPlace {
  TapPoint point;
  HeadId own;
};
inline HeadPlace place_of(const ModelConfig& config, const HeadId& head,
                          Placement placement = Placement::PostNorm) {
  const HeadBank bank = bank_of(config.layers[static_cast<size_t>(head.layer)], head.first);
  return {head_output_point(config, head.layer, head.first, placement),
          {head.layer, head.first - bank.first, head.last - bank.first}};
}

/// The dense maps of all heads of a layer over a prompt, by the layer's numbers: [head, query,
/// key].
inline Tensor dense_maps(const LanguageModel& model, const TokenizedExample& example,
                         int64_t layer) {
  const Watcher seen = watch(model, at::tensor(example.prompt_ids, at::kLong).unsqueeze(0));
  std::vector<Tensor> maps;
  for (const MixerSites& mixer : mixers_of(model.config())) {
    if (mixer.layer == layer) maps.push_back(seen[site_name(mixer.map)][0]);
  }
  return at::cat(maps);
}

/// `tolerance` is absolute for log-probabilities within 1, relative beyond: the goldens' go to -20,
/// where neighbouring float32 logits are 2e-6 apart.
inline void expect_same_verdicts(const SweepOutcome& a, const SweepOutcome& b, double tolerance) {
  ASSERT_EQ(a.verdicts.size(), b.verdicts.size());
  for (size_t i = 0; i < a.verdicts.size(); ++i) {
    const double bound = tolerance * std::max(1.0, std::abs(b.verdicts[i].logprob));
    EXPECT_NEAR(a.verdicts[i].logprob, b.verdicts[i].logprob, bound) << "example " << i;
    EXPECT_NEAR(a.verdicts[i].margin, b.verdicts[i].margin, 2 * bound) << "example " << i;
    EXPECT_EQ(a.verdicts[i].correct, b.verdicts[i].correct) << "example " << i;
  }
}

/// The largest difference of a log-probability between two outcomes.
inline double largest_change(const SweepOutcome& a, const SweepOutcome& b) {
  double largest = 0;
  for (size_t i = 0; i < a.verdicts.size(); ++i) {
    largest = std::max(largest, std::abs(a.verdicts[i].logprob - b.verdicts[i].logprob));
  }
  return largest;
}

}  // namespace headlens::testing
