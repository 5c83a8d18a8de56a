// headlens/tests: scores of heads against plain Python on the same maps.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "analysis_tools.h"
#include "headlens/analysis/head_scores.h"
#include "headlens/analysis/logit_attribution.h"
#include "headlens/analysis/map_figures.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::load_model;
using testing::objective_of;

// The maps that Python started from are transformers' in float32; ours are made in float64.
constexpr double kTolerance = 1e-5;

const json& golden() {
  static const json read = [] {
    std::ifstream file(testing::model_dir("scores") / "expected.json");
    return json::parse(file);
  }();
  return read;
}

std::unique_ptr<Objective> objective(const json& model) {
  std::vector<TokenizedExample> examples;
  for (size_t e = 0; e < model["ids"].size(); ++e) {
    TokenizedExample& example = examples.emplace_back();
    example.prompt_ids = model["ids"][e].get<std::vector<int64_t>>();
    example.tokens.assign(example.prompt_ids.size(), "token");
    for (const auto& id : golden()["choices"][e]) example.choice_ids.push_back({id});
    example.answer = golden()["answers"][e];
    for (const auto& ends : golden()["segments"][e]) example.segments.push_back({ends[0], ends[1]});
  }
  return objective_of(examples);
}

/// The heads that a golden has figures of, and their entries there.
std::vector<std::pair<HeadId, json>> entries(const json& model) {
  std::vector<std::pair<HeadId, json>> all;
  for (const auto& [layer, heads] : model["layers"].items()) {
    for (const json& head : heads) {
      all.push_back({{std::stoll(layer), head["first"], head["last"]}, head});
    }
  }
  return all;
}

std::vector<HeadId> heads_of(const json& model) {
  std::vector<HeadId> heads;
  for (const auto& [head, entry] : entries(model)) heads.push_back(head);
  return heads;
}

double mean_of(const json& examples, const std::string& figure) {
  double sum = 0;
  for (const json& example : examples) sum += example[figure].get<double>();
  return sum / static_cast<double>(examples.size());
}

class GoldenScores : public ::testing::TestWithParam<std::string> {
 protected:
  const json& model() const { return golden()["models"][GetParam()]; }
};
INSTANTIATE_TEST_SUITE_P(Models, GoldenScores,
                         ::testing::Values("llama", "mamba2", "llamba", "falcon_mamba", "bamba"));

TEST_P(GoldenScores, MapFigures) {
  const auto found = map_figures(load_model(GetParam()), *objective(model()), heads_of(model()));
  const std::pair<const char*, std::optional<double> MapFigures::*> figures[] = {
      {"entropy", &MapFigures::entropy},
      {"entropy_norm", &MapFigures::entropy_norm},
      {"row_mass", &MapFigures::row_mass},
      {"gather", &MapFigures::gather},
      {"gather_uniform", &MapFigures::gather_uniform},
      {"aggregate", &MapFigures::aggregate},
      {"aggregate_uniform", &MapFigures::aggregate_uniform},
      {"target", &MapFigures::target},
      {"target_uniform", &MapFigures::target_uniform}};
  const auto expected = entries(model());
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    for (const auto& [name, figure] : figures) {
      ASSERT_TRUE((found[i].*figure).has_value()) << name;
      EXPECT_NEAR(*(found[i].*figure), mean_of(expected[i].second["examples"], name), kTolerance)
          << name << " of " << i;
    }
  }
}

TEST_P(GoldenScores, ValuesThatAreCompared) {
  const auto found = map_values(load_model(GetParam()), *objective(model()), heads_of(model()));
  const auto expected = entries(model());
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const json& examples = expected[i].second["examples"];
    for (size_t f = 0; f < kMapFigures; ++f) {
      for (size_t e = 0; e < examples.size(); ++e) {
        const double value =
            found[i].values(static_cast<Eigen::Index>(f), static_cast<Eigen::Index>(e));
        EXPECT_NEAR(value, examples[e][kMapFigureNames[f]].get<double>(), kTolerance)
            << kMapFigureNames[f] << " of " << i;
      }
    }
  }
}

TEST_P(GoldenScores, HeadDetectors) {
  std::vector<Tensor> rows;
  for (const json& ids : model()["ids"]) {
    rows.push_back(at::tensor(ids.get<std::vector<int64_t>>(), at::kLong));
  }
  const auto found = pattern_scores(load_model(GetParam()), at::stack(rows), heads_of(model()));
  const auto expected = entries(model());
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const json& scores = expected[i].second["detectors"];
    EXPECT_NEAR(found[i].previous_token, scores["previous_token"].get<double>(), kTolerance);
    EXPECT_NEAR(found[i].duplicate_token, scores["duplicate_token"].get<double>(), kTolerance);
    EXPECT_NEAR(found[i].induction, scores["induction"].get<double>(), kTolerance);
  }
}

TEST_P(GoldenScores, DirectEffectsAndLogitLens) {
  if (!model().contains("effects")) return;  // two of the models have them
  std::vector<AnswerTokens> answers;
  for (size_t e = 0; e < golden()["answers"].size(); ++e) {
    auto& tokens = answers.emplace_back();
    const auto choices = golden()["choices"][e].get<std::vector<int64_t>>();
    const size_t answer = golden()["answers"][e];
    tokens.answer = choices[answer];
    for (const int64_t id : choices) {
      if (id != tokens.answer) tokens.others.push_back(id);
    }
  }
  const auto found = attribute_logits(load_model(GetParam()), *objective(model()), answers);
  json effects = model()["effects"];
  const auto expect = [&](const std::string& name, double value) {
    if (!effects.contains(name)) return;  // a head of a layer that was not recorded
    EXPECT_NEAR(value, effects[name].get<double>(), kTolerance) << name;
    effects.erase(name);
  };
  expect("embedding", found.embedding.value);
  for (const auto& [head, kind, effect] : found.heads) {
    expect("head " + std::to_string(head.layer) + "." + std::to_string(head.first), effect.value);
  }
  for (const auto& [layer, effect] : found.mlps)
    expect("mlp " + std::to_string(layer), effect.value);
  for (const LensLayer& layer : found.lens) {
    expect("lens " + std::to_string(layer.layer), layer.difference.value);
    expect("logprob " + std::to_string(layer.layer), layer.logprob.value);
  }
  EXPECT_TRUE(effects.empty()) << effects.dump();
}

}  // namespace
}  // namespace headlens
