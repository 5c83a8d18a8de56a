// headlens/analysis: means and ratios of figures that each example has, with their intervals.
#pragma once

#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/analysis/types.h"

namespace headlens {

/// What each example loses of the right choice's log-probability, nats: [example].
std::vector<double> logprob_drops(const SweepOutcome& base, const SweepOutcome& changed);

/// The mean and its 95 % interval, mean +- 1.96 s / sqrt(n). ShapeError for fewer than two values.
Estimate mean_estimate(const std::vector<double>& values);

/// mean(part) / mean(whole) with the interval of a ratio of paired means: that of the mean of
/// part_i - ratio whole_i, over mean(whole) (the delta method). ShapeError for lists of unlike
/// lengths or fewer than two values.
Estimate ratio_estimate(const std::vector<double>& part, const std::vector<double>& whole);

}  // namespace headlens
