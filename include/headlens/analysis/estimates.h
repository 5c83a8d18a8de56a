// headlens/analysis: drops and their intervals from paired verdicts.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Verdicts of every example under one intervention, or none.
struct SweepOutcome {
  std::vector<Verdict> verdicts;  // [example]
  double accuracy() const;
  double mean_logprob() const;
  int64_t near_ties() const;  // examples whose two best choices lie within 1e-3 nats
};

/// 95 % Wilson score interval of `correct` out of `n`.
Estimate accuracy_interval(int64_t correct, int64_t n);

/// Base accuracy - ablated accuracy over the same examples, with a 95 % interval for matched pairs
/// (Agresti and Min, Statistics in Medicine 24, 2005: half an example added to each cell of the 2 x
/// 2 table).
Estimate accuracy_drop(const SweepOutcome& base, const SweepOutcome& ablated);

/// Mean drop of the right choice's log-probability, nats.
double logprob_drop(const SweepOutcome& base, const SweepOutcome& ablated);

}  // namespace headlens
