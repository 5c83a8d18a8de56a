// headlens/analysis: what patched runs came to: figures, changes, and the error of estimates.
#include "analysis/patch_results.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "analysis/paired_means.h"
#include "headlens/analysis/screening.h"

namespace headlens {
namespace {

std::vector<double> logprobs_of(const SweepOutcome& outcome) {
  std::vector<double> values;
  for (const Verdict& v : outcome.verdicts) values.push_back(v.logprob);
  return values;
}

std::vector<double> differences_of(const SweepOutcome& outcome) {
  std::vector<double> values;
  for (const Verdict& v : outcome.verdicts) values.push_back(v.numbers.at(0));
  return values;
}

std::vector<double> minus(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

}  // namespace

RunFigures run_figures(const SweepOutcome& outcome) {
  return {accuracy_estimate(outcome), mean_estimate(logprobs_of(outcome)),
          mean_estimate(differences_of(outcome))};
}

void fill_figures(PatchCell& cell, const SweepOutcome& patched, const SweepOutcome& clean,
                  const SweepOutcome& corrupted, PatchDirection direction) {
  const SweepOutcome& base = direction == PatchDirection::Denoising ? corrupted : clean;
  const Estimate drop = accuracy_drop(base, patched);
  cell.patched = run_figures(patched);
  cell.accuracy_change = {0 - drop.value, 0 - drop.high, 0 - drop.low};
  cell.logprob_change = mean_estimate(minus(logprobs_of(patched), logprobs_of(base)));
  cell.difference_change = mean_estimate(minus(differences_of(patched), differences_of(base)));
  const std::vector<double> from = differences_of(corrupted);
  const std::vector<double> gap = minus(differences_of(clean), from);
  if (mean_estimate(gap).low <= 0) return;
  cell.recovered = ratio_estimate(minus(differences_of(patched), from), gap);
}

AttributionError attribution_error(const std::vector<PatchCell>& cells) {
  std::vector<double> exact, estimated, error;
  AttributionError result;
  for (const PatchCell& cell : cells) {
    exact.push_back(cell.difference_change.value);
    estimated.push_back(cell.estimated->value);
    error.push_back(std::abs(exact.back() - estimated.back()));
    result.mean_absolute += error.back() / static_cast<double>(cells.size());
    result.mean_exact += std::abs(exact.back()) / static_cast<double>(cells.size());
  }
  if (cells.size() >= 3) result.rank_correlation = spearman(exact, estimated);
  result.worst.resize(cells.size());
  std::iota(result.worst.begin(), result.worst.end(), size_t{0});
  std::stable_sort(result.worst.begin(), result.worst.end(),
                   [&](size_t a, size_t b) { return error[a] > error[b]; });
  constexpr size_t kWorst = 5;
  result.worst.resize(std::min(kWorst, cells.size()));
  return result;
}

}  // namespace headlens
