// headlens/analysis: drops and their intervals from paired verdicts.
#include "headlens/analysis/estimates.h"

#include <algorithm>
#include <cmath>

#include "analysis/paired_means.h"
#include "core/check.h"
#include "headlens/core/intervals.h"

namespace headlens {
namespace {

double ratio(double part, size_t whole) {
  return whole == 0 ? 0 : part / static_cast<double>(whole);
}

void check_pairs(const SweepOutcome& base, const SweepOutcome& ablated) {
  HEADLENS_CHECK(ShapeError, base.verdicts.size() == ablated.verdicts.size(),
                 "[drop] ablated verdicts, expected {} as in the base, got {}",
                 base.verdicts.size(), ablated.verdicts.size());
}

}  // namespace

int64_t SweepOutcome::correct() const {
  return std::count_if(verdicts.begin(), verdicts.end(),
                       [](const Verdict& v) { return v.correct; });
}

double SweepOutcome::accuracy() const {
  return ratio(static_cast<double>(correct()), verdicts.size());
}

double SweepOutcome::mean_logprob() const {
  double sum = 0;
  for (const Verdict& v : verdicts) sum += v.logprob;
  return ratio(sum, verdicts.size());
}

int64_t SweepOutcome::near_ties() const {
  return std::count_if(verdicts.begin(), verdicts.end(),
                       [](const Verdict& v) { return v.margin < kNearTie; });
}

Estimate accuracy_estimate(const SweepOutcome& outcome) {
  const auto [low, high] = wilson_bounds(outcome.correct(), std::ssize(outcome.verdicts));
  return {outcome.accuracy(), low, high};
}

Estimate accuracy_drop(const SweepOutcome& base, const SweepOutcome& ablated) {
  check_pairs(base, ablated);
  double lost = 0, won = 0;
  for (size_t i = 0; i < base.verdicts.size(); ++i) {
    lost += base.verdicts[i].correct && !ablated.verdicts[i].correct;
    won += !base.verdicts[i].correct && ablated.verdicts[i].correct;
  }
  const double n = static_cast<double>(base.verdicts.size());
  if (n == 0) return {0, -1, 1};
  // Half an example in each of the four cells: n + 2 in all, and the difference stays as it is.
  const double discordant = lost + won + 1, difference = lost - won, total = n + 2;
  const double centre = difference / total;
  const double half = kNormal95 * std::sqrt(discordant - difference * difference / total) / total;
  return {difference / n, std::max(-1.0, centre - half), std::min(1.0, centre + half)};
}

double logprob_drop(const SweepOutcome& base, const SweepOutcome& ablated) {
  check_pairs(base, ablated);
  return base.mean_logprob() - ablated.mean_logprob();
}

Estimate logprob_drop_estimate(const SweepOutcome& base, const SweepOutcome& ablated) {
  check_pairs(base, ablated);
  return mean_estimate(logprob_drops(base, ablated));
}

}  // namespace headlens
