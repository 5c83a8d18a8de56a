// headlens/tests: figures of maps against plain loops over dense ones, and by hand.
#include "headlens/analysis/map_figures.h"

#include <gtest/gtest.h>

#include "analysis_tools.h"
#include "core/error_message.h"

namespace headlens {
namespace {

using testing::changed_model;
using testing::dense_maps;
using testing::error_message;
using testing::first_layers;
using testing::kFamilies;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;

/// Sums of a figure and how many examples have it.
struct Mean {
  double sum = 0, count = 0;
  void add(double value) { sum += value, count += 1; }
  std::optional<double> value() const {
    return count > 0 ? std::optional(sum / count) : std::nullopt;
  }
};

/// Figures of one head or channel by the words of docs/metrics.md, one entry at a time.
struct PlainFigures {
  Mean entropy, entropy_norm, row_mass, gather, aggregate, target;

  void add(const Tensor& map, const TokenizedExample& example) {  // map [query, key]
    const auto m = map.accessor<double, 2>();
    const auto mass = [&](int64_t i) {
      double sum = 0;
      for (int64_t j = 0; j <= i; ++j) sum += std::abs(m[i][j]);
      return sum;
    };
    const auto p = [&](int64_t i, int64_t j) { return std::abs(m[i][j]) / mass(i); };
    const auto within = [&](int64_t i, const Segment& s) {
      double sum = 0;
      for (int64_t j = s.start; j <= s.end; ++j) sum += p(i, j);
      return sum;
    };
    const int64_t q = std::ssize(example.prompt_ids) - 1;
    double h = 0;
    for (int64_t j = 0; j <= q; ++j) h -= p(q, j) > 0 ? p(q, j) * std::log(p(q, j)) : 0;
    entropy.add(h);
    if (q > 0) entropy_norm.add(h / std::log(static_cast<double>(q + 1)));
    row_mass.add(mass(q));
    if (example.segments.empty()) return;
    double own = 0, ends = 0;
    for (const Segment& s : example.segments) own += within(s.end, s), ends += p(q, s.end);
    gather.add(own / static_cast<double>(example.segments.size()));
    aggregate.add(ends);
    if (example.segments.size() == example.choice_ids.size()) {
      target.add(within(q, example.segments[static_cast<size_t>(example.answer)]));
    }
  }
};

void expect_near(const std::optional<double>& got, const std::optional<double>& expected,
                 double tolerance) {
  ASSERT_TRUE(got && expected);
  EXPECT_NEAR(*got, *expected, tolerance);
}

class MapFiguresTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, MapFiguresTest, ::testing::ValuesIn(kFamilies));

TEST_P(MapFiguresTest, EqualPlainLoopsOverDenseMaps) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const std::vector<HeadId> targets = all_heads(model.config(), 5);
  const auto figures = map_figures(model, *objective_of(examples), targets);
  ASSERT_EQ(figures.size(), targets.size());
  for (size_t t = 0; t < targets.size(); ++t) {
    SCOPED_TRACE(std::to_string(targets[t].layer) + "." + std::to_string(targets[t].first));
    // The mean over a group's channels, of means over examples.
    std::vector<PlainFigures> channels(static_cast<size_t>(targets[t].last - targets[t].first + 1));
    for (const TokenizedExample& example : examples) {
      const Tensor maps = dense_maps(model, example, targets[t].layer);
      for (size_t c = 0; c < channels.size(); ++c) {
        channels[c].add(maps[targets[t].first + static_cast<int64_t>(c)], example);
      }
    }
    const auto mean = [&](Mean PlainFigures::*figure) {
      Mean over;
      for (const PlainFigures& channel : channels) over.add((channel.*figure).value().value());
      return over.value();
    };
    expect_near(figures[t].entropy, mean(&PlainFigures::entropy), 1e-11);
    expect_near(figures[t].entropy_norm, mean(&PlainFigures::entropy_norm), 1e-11);
    expect_near(figures[t].row_mass, mean(&PlainFigures::row_mass), 1e-9);
    expect_near(figures[t].gather, mean(&PlainFigures::gather), 1e-11);
    expect_near(figures[t].aggregate, mean(&PlainFigures::aggregate), 1e-11);
    expect_near(figures[t].target, mean(&PlainFigures::target), 1e-11);
  }
}

TEST_P(MapFiguresTest, AskedForAloneIsTheSame) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  const std::vector<HeadId> targets = all_heads(model.config(), 3);
  const auto all = map_figures(model, *objective, targets);
  for (size_t t = 0; t < targets.size(); ++t) {
    const MapFigures alone = map_figures(model, *objective, {targets[t]}).front();
    expect_near(alone.entropy, all[t].entropy, 1e-12);
    expect_near(alone.gather, all[t].gather, 1e-12);
    expect_near(alone.target, all[t].target, 1e-12);
  }
}

TEST_P(MapFiguresTest, HalfPrecisionIsMeasuredInMore) {
  const auto objective = objective_of(unlike_examples());
  const LanguageModel model = first_layers(load_model(GetParam()));
  const std::vector<HeadId> targets = all_heads(model.config(), 2);
  const auto precise = map_figures(model, *objective, targets);
  const auto half =
      map_figures(first_layers(load_model(GetParam(), at::kBFloat16)), *objective, targets);
  for (size_t t = 0; t < targets.size(); ++t) {
    // bfloat16 keeps 8 bits, lost again in each of up to 4 layers; masses are below 3.
    expect_near(half[t].entropy_norm, precise[t].entropy_norm, 0.05);
    expect_near(half[t].gather, precise[t].gather, 0.05);
    expect_near(half[t].aggregate, precise[t].aggregate, 0.1);
  }
}

// With q_proj 0 every attention row is uniform: figures follow from positions alone.
TEST(MapFigures, UniformRowsByHand) {
  const LanguageModel model = changed_model("llama", [](auto& weights) {
    for (auto& [name, weight] : weights) {
      if (name.find("q_proj") != std::string::npos) weight.zero_();
    }
  });
  std::vector<TokenizedExample> examples = unlike_examples();
  examples.resize(1);
  examples[0].prompt_ids = {4, 5, 6, 7, 8};
  examples[0].segments = {{0, 1}, {3, 3}, {2, 3}};
  examples[0].choice_ids = {{1}, {2}, {3}};
  examples[0].answer = 2;
  const MapFigures f = map_figures(model, *objective_of(examples), {{1, 2, 2}}).front();
  EXPECT_NEAR(*f.entropy, std::log(5.0), 1e-12);
  EXPECT_NEAR(*f.entropy_norm, 1, 1e-12);
  EXPECT_NEAR(*f.row_mass, 1, 1e-12);
  EXPECT_NEAR(*f.gather, (2.0 / 2 + 1.0 / 4 + 2.0 / 4) / 3, 1e-12);
  EXPECT_NEAR(*f.aggregate, 3.0 / 5, 1e-12);
  EXPECT_NEAR(*f.target, 2.0 / 5, 1e-12);
  EXPECT_NEAR(*f.gather_uniform, *f.gather, 1e-12);
  EXPECT_NEAR(*f.aggregate_uniform, *f.aggregate, 1e-12);
  EXPECT_NEAR(*f.target_uniform, *f.target, 1e-12);
}

TEST(MapFigures, UniformMassesAreMeansOverExamplesWithSegments) {
  const auto examples = unlike_examples();
  const MapFigures f =
      map_figures(load_model("llama"), *objective_of(examples), {{0, 0, 0}}).front();
  const double a = (3.0 / 3 + 4.0 / 7) / 2, b = 2.0 / 3, c = (2.0 / 4 + 1.0 / 5 + 6.0 / 11) / 3,
               d = (2.0 / 2 + 4.0 / 6) / 2;
  EXPECT_NEAR(*f.gather_uniform, (a + b + c + d) / 4, 1e-12);
  EXPECT_NEAR(*f.aggregate_uniform, (2.0 / 9 + 1.0 / 4 + 3.0 / 12 + 2.0 / 6) / 4, 1e-12);
  EXPECT_NEAR(*f.target_uniform, (4.0 / 9 + 4.0 / 6) / 2, 1e-12);  // a segment for each choice
}

TEST(MapFigures, WhatNoExampleHasIsAbsent) {
  const LanguageModel model = load_model("mamba2");
  std::vector<TokenizedExample> examples = unlike_examples();
  for (TokenizedExample& example : examples) example.segments.clear();
  const MapFigures plain = map_figures(model, *objective_of(examples), {{0, 1, 1}}).front();
  EXPECT_TRUE(plain.entropy && plain.entropy_norm && plain.row_mass);
  EXPECT_FALSE(plain.gather || plain.gather_uniform || plain.aggregate || plain.aggregate_uniform ||
               plain.target || plain.target_uniform);

  examples = {examples[3]};  // one token
  const MapFigures one = map_figures(model, *objective_of(examples), {{0, 1, 1}}).front();
  EXPECT_NEAR(*one.entropy, 0, 1e-15);
  EXPECT_FALSE(one.entropy_norm);

  examples = {unlike_examples()[2]};  // three segments for four choices
  const MapFigures no_target = map_figures(model, *objective_of(examples), {{0, 1, 1}}).front();
  EXPECT_TRUE(no_target.gather && no_target.aggregate);
  EXPECT_FALSE(no_target.target || no_target.target_uniform);
}

TEST(MapFigures, ReportsProgress) {
  const auto objective = objective_of(unlike_examples());
  std::vector<int64_t> steps;
  map_figures(load_model("llama"), *objective, {{0, 0, 0}}, [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, objective->batch_count());
    steps.push_back(done);
  });
  EXPECT_EQ(std::ssize(steps), objective->batch_count());
  EXPECT_EQ(steps.back(), objective->batch_count());
  EXPECT_TRUE(map_figures(load_model("llama"), *objective, {}).empty());
}

TEST(MapFigures, RefusesHeadsThatDoNotExist) {
  const LanguageModel model = load_model("llama");
  const auto objective = objective_of(unlike_examples());
  EXPECT_EQ(error_message<HookError>([&] {
              map_figures(model, *objective, {{0, 4, 4}});
            }),
            "[ablate] head, expected 0..3 in layer 0, got 4");
  EXPECT_EQ(error_message<HookError>([&] {
              map_samples(model, *objective, 0, {{7, 0, 0}});
            }),
            "[ablate] layer, expected 0..2, got 7");
}

}  // namespace
}  // namespace headlens
