// headlens/analysis: how sharp the maps of two models are on the same examples.
#include "headlens/analysis/compare.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "analysis/paired_means.h"
#include "core/check.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/analysis/map_figures.h"

namespace headlens {
namespace {

using Values = std::vector<double>;  // [example]; NaN: the example cannot have it

double quantile(const Values& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(place);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (place - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Values values_of(const HeadValues& head, MapFigure figure) {
  const auto row = head.values.row(static_cast<Eigen::Index>(figure));
  return {row.begin(), row.end()};
}

/// The mean of a figure over these heads, in each example.
Values mean_over(const std::vector<const HeadValues*>& heads, MapFigure figure) {
  Values mean(static_cast<size_t>(heads.front()->values.cols()), 0.0);
  for (const HeadValues* head : heads) {
    const Values values = values_of(*head, figure);
    for (size_t i = 0; i < mean.size(); ++i) {
      mean[i] += values[i] / static_cast<double>(heads.size());
    }
  }
  return mean;
}

/// The heads of a model whose figures are summed up together; none: the model has no such heads.
using HeadChoice = std::vector<const HeadValues*>;

HeadChoice heads_at_depth(const ComparedModel& model, int64_t bin, int64_t bins) {
  HeadChoice chosen;
  for (const HeadValues& head : model.heads) {
    if (head.head.layer * bins / model.model.layers == bin) chosen.push_back(&head);
  }
  return chosen;
}

HeadChoice one_head(const std::optional<HeadValues>& head) {
  return head ? HeadChoice{&*head} : HeadChoice{};
}

/// Nothing where fewer than two examples have the figure in both models.
std::optional<PairedDifference> difference_of(const std::string& summary, MapFigure figure,
                                              const HeadChoice& a, const HeadChoice& b) {
  if (a.empty() || b.empty()) return std::nullopt;
  const Values in_a = mean_over(a, figure), in_b = mean_over(b, figure);
  Values kept_a, kept_b, differences;
  for (size_t i = 0; i < in_a.size(); ++i) {
    if (!std::isfinite(in_a[i]) || !std::isfinite(in_b[i])) continue;
    kept_a.push_back(in_a[i]);
    kept_b.push_back(in_b[i]);
    differences.push_back(in_a[i] - in_b[i]);
  }
  if (differences.size() < 2) return std::nullopt;
  return PairedDifference{summary,
                          figure,
                          std::ssize(differences),
                          mean_estimate(kept_a),
                          mean_estimate(kept_b),
                          mean_estimate(differences)};
}

void add_differences(Comparison& c, const std::string& summary, const HeadChoice& a,
                     const HeadChoice& b) {
  for (size_t f = 0; f < kMapFigures; ++f) {
    auto difference = difference_of(summary, static_cast<MapFigure>(f), a, b);
    if (difference) c.differences.push_back(*std::move(difference));
  }
}

void fill_spreads(ComparedModel& model) {
  model.head_spreads.assign(model.heads.size(), {});
  model.layer_spreads.assign(static_cast<size_t>(model.model.layers), {});
  for (size_t f = 0; f < kMapFigures; ++f) {
    const auto figure = static_cast<MapFigure>(f);
    for (size_t h = 0; h < model.heads.size(); ++h) {
      model.head_spreads[h][f] = spread_of(model.heads[h], figure);
    }
    for (size_t layer = 0; layer < model.layer_spreads.size(); ++layer) {
      model.layer_spreads[layer][f] = spread_of(model, static_cast<int64_t>(layer), figure);
    }
  }
}

int64_t examples_of(const ComparedModel& model, const char* which) {
  HEADLENS_CHECK(ShapeError, !model.heads.empty() && model.model.layers > 0,
                 "[compare] model {}, expected one with heads, got none", which);
  const int64_t examples = model.heads.front().values.cols();
  const auto fits = [&](const HeadValues& head) {
    return head.values.cols() == examples &&
           head.values.rows() == static_cast<Eigen::Index>(kMapFigures);
  };
  const bool all = std::all_of(model.heads.begin(), model.heads.end(), fits) &&
                   (!model.gather || fits(*model.gather)) &&
                   (!model.aggregate || fits(*model.aggregate));
  HEADLENS_CHECK(ShapeError, all, "[compare] figures of model {}, expected {} x {}, got others",
                 which, kMapFigures, examples);
  return examples;
}

}  // namespace

ComparedModel measure_model(const LanguageModel& model, const Objective& objective,
                            const ChosenHeads& chosen, int64_t mamba1_groups,
                            const std::function<void(int64_t, int64_t)>& progress) {
  HEADLENS_CHECK(TaskError, objective.example_count() > 0,
                 "[compare] examples, expected at least 1, got {}", objective.example_count());
  std::vector<HeadId> targets = all_heads(model.config(), mamba1_groups);
  const auto count = static_cast<std::ptrdiff_t>(targets.size());
  for (const auto& head : {chosen.gather, chosen.aggregate}) {
    if (head) targets.push_back(*head);
  }
  ComparedModel measured;
  measured.model = describe_model(model).model;
  measured.heads = map_values(model, objective, targets, progress);
  auto extra = measured.heads.begin() + count;
  if (chosen.gather) measured.gather = *extra++;
  if (chosen.aggregate) measured.aggregate = *extra;
  measured.heads.erase(measured.heads.begin() + count, measured.heads.end());
  return measured;
}

Comparison compare_models(ComparedModel a, ComparedModel b, int64_t depth_bins) {
  HEADLENS_CHECK(UsageError, depth_bins >= 1, "[compare] depth bins, expected at least 1, got {}",
                 depth_bins);
  const int64_t examples = examples_of(a, "A"), in_b = examples_of(b, "B");
  HEADLENS_CHECK(ShapeError, examples == in_b,
                 "[compare] examples of model B, expected {} as in A, got {}", examples, in_b);
  HEADLENS_CHECK(TaskError, examples >= 2, "[compare] examples, expected at least 2, got {}",
                 examples);
  Comparison c{std::move(a), std::move(b), examples, depth_bins, {}};
  fill_spreads(c.a);
  fill_spreads(c.b);
  add_differences(c, "mean", heads_at_depth(c.a, 0, 1), heads_at_depth(c.b, 0, 1));
  add_differences(c, "gather_head", one_head(c.a.gather), one_head(c.b.gather));
  add_differences(c, "aggregate_head", one_head(c.a.aggregate), one_head(c.b.aggregate));
  for (int64_t bin = 0; bin < depth_bins; ++bin) {
    add_differences(c, "depth_" + std::to_string(bin + 1), heads_at_depth(c.a, bin, depth_bins),
                    heads_at_depth(c.b, bin, depth_bins));
  }
  return c;
}

std::optional<Spread> spread_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  return Spread{std::ssize(values),     std::accumulate(values.begin(), values.end(), 0.0) / n,
                quantile(values, 0.05), quantile(values, 0.25),
                quantile(values, 0.5),  quantile(values, 0.75),
                quantile(values, 0.95)};
}

std::optional<Spread> spread_of(const HeadValues& head, MapFigure figure) {
  return spread_of(values_of(head, figure));
}

std::optional<Spread> spread_of(const ComparedModel& model, int64_t layer, MapFigure figure) {
  Values all;
  for (const HeadValues& head : model.heads) {
    if (head.head.layer != layer) continue;
    const Values values = values_of(head, figure);
    all.insert(all.end(), values.begin(), values.end());
  }
  return spread_of(std::move(all));
}

}  // namespace headlens
