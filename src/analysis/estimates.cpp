// headlens/analysis: drops and their intervals from paired verdicts.
#include "headlens/analysis/estimates.h"

#include <algorithm>
#include <cmath>

namespace headlens {
namespace {

constexpr double kZ95 = 1.959963984540054;  // 97.5 % point of the normal distribution
constexpr double kNearTieNats = 1e-3;       // the contract's definition of a near tie

double ratio(double part, size_t whole) {
  return whole == 0 ? 0 : part / static_cast<double>(whole);
}

}  // namespace

double SweepOutcome::accuracy() const {
  const auto correct =
      std::count_if(verdicts.begin(), verdicts.end(), [](const Verdict& v) { return v.correct; });
  return ratio(static_cast<double>(correct), verdicts.size());
}

double SweepOutcome::mean_logprob() const {
  double sum = 0;
  for (const Verdict& v : verdicts) sum += v.logprob;
  return ratio(sum, verdicts.size());
}

int64_t SweepOutcome::near_ties() const {
  return std::count_if(verdicts.begin(), verdicts.end(),
                       [](const Verdict& v) { return v.margin < kNearTieNats; });
}

Estimate accuracy_interval(int64_t correct, int64_t n) {
  if (n == 0) return {0, 0, 1};
  const double count = static_cast<double>(n), p = static_cast<double>(correct) / count;
  const double z2 = kZ95 * kZ95, denominator = 1 + z2 / count;
  const double centre = (p + z2 / (2 * count)) / denominator;
  const double half =
      kZ95 * std::sqrt(p * (1 - p) / count + z2 / (4 * count * count)) / denominator;
  return {p, std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

Estimate accuracy_drop(const SweepOutcome& base, const SweepOutcome& ablated) {
  double lost = 0, won = 0;
  for (size_t i = 0; i < base.verdicts.size(); ++i) {
    lost += base.verdicts[i].correct && !ablated.verdicts[i].correct;
    won += !base.verdicts[i].correct && ablated.verdicts[i].correct;
  }
  const double n = static_cast<double>(base.verdicts.size());
  if (n == 0) return {0, -1, 1};
  const double n2 = n + 2, lost2 = lost + 0.5, won2 = won + 0.5;
  const double centre = (lost2 - won2) / n2;
  const double spread = (lost2 + won2) - (lost2 - won2) * (lost2 - won2) / n2;
  const double half = kZ95 * std::sqrt(std::max(0.0, spread)) / n2;
  return {(lost - won) / n, std::max(-1.0, centre - half), std::min(1.0, centre + half)};
}

double logprob_drop(const SweepOutcome& base, const SweepOutcome& ablated) {
  return base.mean_logprob() - ablated.mean_logprob();
}

}  // namespace headlens
