// headlens/tests: comparison of two models by hand, and against dense maps of golden models.
#include "headlens/analysis/compare.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "analysis_tools.h"
#include "core/error_message.h"
#include "headlens/analysis/map_figures.h"

namespace headlens {
namespace {

using testing::dense_maps;
using testing::error_message;
using testing::load_model;
using testing::objective_of;
using testing::unlike_examples;

const double kAbsent = std::nan("");

/// A head whose figures are all `values`, times 1, 2, .. from figure to figure.
HeadValues head_of(const HeadId& id, const std::vector<double>& values) {
  HeadValues head{id, "attention", Eigen::MatrixXd(kMapFigures, std::ssize(values))};
  for (size_t f = 0; f < kMapFigures; ++f) {
    for (size_t i = 0; i < values.size(); ++i) {
      head.values(static_cast<Eigen::Index>(f), static_cast<Eigen::Index>(i)) =
          values[i] * static_cast<double>(f + 1);
    }
  }
  return head;
}

ComparedModel model_of(int64_t layers, std::vector<HeadValues> heads) {
  ComparedModel model;
  model.model.layers = layers;
  model.heads = std::move(heads);
  return model;
}

const PairedDifference* find(const Comparison& c, const std::string& summary, MapFigure figure) {
  for (const PairedDifference& d : c.differences) {
    if (d.summary == summary && d.figure == figure) return &d;
  }
  return nullptr;
}

/// NaN for a summary that is not there.
double difference(const Comparison& c, const std::string& summary, MapFigure figure) {
  const PairedDifference* d = find(c, summary, figure);
  return d != nullptr ? d->difference.value : kAbsent;
}

// A has 2 layers, B 4: their first halves are layer 0 of A and layers 0 and 1 of B.
TEST(Compare, DifferencesByHand) {
  ComparedModel a = model_of(2, {head_of({0, 0, 0}, {1, 2, 6}), head_of({1, 0, 0}, {3, 4, 2})});
  ComparedModel b = model_of(4, {head_of({0, 0, 0}, {1, 1, 1}), head_of({1, 0, 0}, {0, 1, 3}),
                                 head_of({3, 0, 3}, {2, 4, 2})});
  a.gather = a.heads[0];
  b.gather = b.heads[1];
  a.aggregate = a.heads[1];
  const Comparison c = compare_models(a, b, 2);
  EXPECT_EQ(c.examples, 3);
  // Means over heads: A (2, 3, 4), B (1, 2, 2); differences 1, 1, 2, standard deviation 1 / sqrt 3.
  const PairedDifference* mean = find(c, "mean", MapFigure::EntropyNorm);
  ASSERT_NE(mean, nullptr);
  EXPECT_EQ(mean->examples, 3);
  EXPECT_NEAR(mean->a.value, 3, 1e-15);
  EXPECT_NEAR(mean->b.value, 5.0 / 3, 1e-15);
  EXPECT_NEAR(mean->difference.value, 4.0 / 3, 1e-15);
  EXPECT_NEAR(mean->difference.high - mean->difference.value, 1.959963984540054 / 3, 1e-12);
  EXPECT_NEAR(mean->difference.value - mean->difference.low, 1.959963984540054 / 3, 1e-12);
  EXPECT_NEAR(difference(c, "mean", MapFigure::Peak), 3 * 4.0 / 3, 1e-14);
  // Gather heads: (1, 2, 6) - (0, 1, 3).
  EXPECT_NEAR(difference(c, "gather_head", MapFigure::Gather), 4 * 5.0 / 3, 1e-14);
  EXPECT_EQ(find(c, "aggregate_head", MapFigure::Gather), nullptr);  // B has none
  // First halves: (1, 2, 6) - (0.5, 1, 2); second: (3, 4, 2) - (2, 4, 2).
  EXPECT_NEAR(difference(c, "depth_1", MapFigure::EntropyNorm), 5.5 / 3, 1e-14);
  EXPECT_NEAR(difference(c, "depth_2", MapFigure::EntropyNorm), 1.0 / 3, 1e-14);
  EXPECT_EQ(find(c, "depth_3", MapFigure::EntropyNorm), nullptr);
}

TEST(Compare, OnlyExamplesThatBothHaveCount) {
  const Comparison c = compare_models(model_of(1, {head_of({0, 0, 0}, {1, kAbsent, 3, 5})}),
                                      model_of(1, {head_of({0, 0, 0}, {kAbsent, 2, 2, 3})}), 1);
  const PairedDifference* mean = find(c, "mean", MapFigure::EntropyNorm);
  ASSERT_NE(mean, nullptr);
  EXPECT_EQ(mean->examples, 2);
  EXPECT_NEAR(mean->difference.value, 1.5, 1e-15);
  const Comparison none = compare_models(model_of(1, {head_of({0, 0, 0}, {1, kAbsent})}),
                                         model_of(1, {head_of({0, 0, 0}, {1, 2})}), 1);
  EXPECT_TRUE(none.differences.empty());
}

TEST(Compare, SpreadInterpolatesBetweenOrderStatistics) {
  const auto spread = spread_of({4, 1, kAbsent, 3, 2, 10});
  ASSERT_TRUE(spread);
  EXPECT_EQ(spread->count, 5);
  EXPECT_NEAR(spread->mean, 4, 1e-15);
  EXPECT_NEAR(spread->q05, 1.2, 1e-12);
  EXPECT_NEAR(spread->q25, 2, 1e-12);
  EXPECT_NEAR(spread->q50, 3, 1e-12);
  EXPECT_NEAR(spread->q75, 4, 1e-12);
  EXPECT_NEAR(spread->q95, 8.8, 1e-12);
  EXPECT_FALSE(spread_of(std::vector<double>{kAbsent}));
  const ComparedModel model = model_of(
      2, {head_of({0, 0, 0}, {1, 2}), head_of({0, 1, 1}, {3, 6}), head_of({1, 0, 0}, {50, 60})});
  EXPECT_NEAR(spread_of(model, 0, MapFigure::EntropyNorm)->mean, 3, 1e-15);
  EXPECT_EQ(spread_of(model, 0, MapFigure::EntropyNorm)->count, 4);
  EXPECT_NEAR(spread_of(model.heads[1], MapFigure::Effective)->q50, 9, 1e-15);
}

/// The figures of one row-normalised map [query, key] by their definitions.
std::vector<double> figures_by_hand(const Tensor& map, const TokenizedExample& example) {
  const Tensor p =
      map.to(at::kDouble).abs() / map.to(at::kDouble).abs().sum(-1, true).clamp_min(1e-300);
  const int64_t q = std::ssize(example.prompt_ids) - 1;
  const auto at = [&](int64_t i, int64_t j) { return p[i][j].item<double>(); };
  double entropy = 0, peak = 0, gather = 0, aggregate = 0;
  for (int64_t j = 0; j <= q; ++j) {
    if (at(q, j) > 0) entropy -= at(q, j) * std::log(at(q, j));
    peak = std::max(peak, at(q, j));
  }
  for (const Segment& s : example.segments) {
    for (int64_t j = s.start; j <= s.end; ++j) gather += at(s.end, j);
    aggregate += at(q, s.end);
  }
  const double n = static_cast<double>(example.segments.size());
  return {entropy / std::log(static_cast<double>(q + 1)), std::exp(entropy), peak, gather / n,
          aggregate};
}

class CompareGolden : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Kinds, CompareGolden,
                         ::testing::Values("llama", "mamba2", "llamba", "falcon_mamba", "falcon_h1",
                                           "jamba"));

TEST_P(CompareGolden, ValuesOfEveryExampleAreThoseOfTheDenseMaps) {
  const LanguageModel model = load_model(GetParam());
  const auto examples = unlike_examples();
  const auto objective = objective_of(examples);
  const int64_t layer = model.layer_count() - 1;
  const std::vector<HeadId> targets = {{layer, 1, 1}, {layer, 0, 2}};
  const std::vector<HeadValues> found = map_values(model, *objective, targets);
  for (size_t i = 0; i < examples.size(); ++i) {
    SCOPED_TRACE(i);
    const auto column = static_cast<Eigen::Index>(i);
    const Tensor maps = dense_maps(model, examples[i], layer);
    const std::vector<double> single = figures_by_hand(maps[1], examples[i]);
    std::vector<double> group(kMapFigures, 0.0);
    for (int64_t h = 0; h < 3; ++h) {
      const std::vector<double> one = figures_by_hand(maps[h], examples[i]);
      for (size_t f = 0; f < kMapFigures; ++f) group[f] += one[f] / 3;
    }
    for (size_t f = 0; f < kMapFigures; ++f) {
      SCOPED_TRACE(kMapFigureNames[f]);
      const bool of_segments = f >= static_cast<size_t>(MapFigure::Gather);
      const bool absent =
          of_segments ? examples[i].segments.empty() : f == 0 && examples[i].prompt_ids.size() == 1;
      const double value = found[0].values(static_cast<Eigen::Index>(f), column);
      ASSERT_EQ(std::isnan(value), absent);
      if (absent) continue;
      EXPECT_NEAR(value, single[f], 1e-9);
      EXPECT_NEAR(found[1].values(static_cast<Eigen::Index>(f), column), group[f], 1e-9);
    }
  }
}

TEST_P(CompareGolden, AModelDiffersInNothingFromItself) {
  const LanguageModel model = load_model(GetParam());
  const auto objective = objective_of(unlike_examples());
  const ChosenHeads chosen{HeadId{0, 0, 0}, HeadId{model.layer_count() - 1, 1, 1}};
  const ComparedModel measured = measure_model(model, *objective, chosen, 3);
  EXPECT_EQ(measured.gather->head, *chosen.gather);
  EXPECT_EQ(measured.aggregate->head, *chosen.aggregate);
  const Comparison c = compare_models(measured, measured, 2);
  EXPECT_GE(c.differences.size(), 4 * kMapFigures);
  for (const PairedDifference& d : c.differences) {
    EXPECT_EQ(d.difference.value, 0);
    EXPECT_EQ(d.difference.low, 0);
    EXPECT_EQ(d.difference.high, 0);
    EXPECT_LT(d.a.low, d.a.high);
  }
}

TEST(Compare, SaysWhatDoesNotFit) {
  const ComparedModel two = model_of(1, {head_of({0, 0, 0}, {1, 2})}),
                      three = model_of(1, {head_of({0, 0, 0}, {1, 2, 3})}),
                      one = model_of(1, {head_of({0, 0, 0}, {1})});
  EXPECT_EQ(error_message<ShapeError>([&] { compare_models(two, three, 1); }),
            "[compare] examples of model B, expected 2 as in A, got 3");
  EXPECT_EQ(error_message<TaskError>([&] { compare_models(one, one, 1); }),
            "[compare] examples, expected at least 2, got 1");
  EXPECT_EQ(error_message<UsageError>([&] { compare_models(two, two, 0); }),
            "[compare] depth bins, expected at least 1, got 0");
  EXPECT_EQ(error_message<ShapeError>([&] { compare_models(two, model_of(1, {}), 1); }),
            "[compare] model B, expected one with heads, got none");
}

}  // namespace
}  // namespace headlens
