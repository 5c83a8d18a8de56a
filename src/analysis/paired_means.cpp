// headlens/analysis: means and ratios of figures that each example has, with their intervals.
#include "analysis/paired_means.h"

#include <cmath>
#include <numeric>

#include "core/check.h"
#include "headlens/core/intervals.h"

namespace headlens {
namespace {

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::vector<double> logprob_drops(const SweepOutcome& base, const SweepOutcome& changed) {
  HEADLENS_CHECK(ShapeError, base.verdicts.size() == changed.verdicts.size(),
                 "[drop] changed verdicts, expected {} as in the base, got {}",
                 base.verdicts.size(), changed.verdicts.size());
  std::vector<double> drops;
  for (size_t i = 0; i < base.verdicts.size(); ++i) {
    drops.push_back(base.verdicts[i].logprob - changed.verdicts[i].logprob);
  }
  return drops;
}

Estimate mean_estimate(const std::vector<double>& values) {
  HEADLENS_CHECK(ShapeError, values.size() >= 2, "[interval] examples, expected at least 2, got {}",
                 values.size());
  const double n = static_cast<double>(values.size()), mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double half = kNormal95 * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - half, mean + half};
}

Estimate ratio_estimate(const std::vector<double>& part, const std::vector<double>& whole) {
  HEADLENS_CHECK(ShapeError, part.size() == whole.size() && part.size() >= 2,
                 "[interval] pairs, expected at least 2 of each, got {} and {}", part.size(),
                 whole.size());
  const double base = mean_of(whole), ratio = mean_of(part) / base;
  std::vector<double> rest;
  for (size_t i = 0; i < part.size(); ++i) rest.push_back(part[i] - ratio * whole[i]);
  const double half = mean_estimate(rest).high - mean_estimate(rest).value;
  return {ratio, ratio - half / std::abs(base), ratio + half / std::abs(base)};
}

}  // namespace headlens
