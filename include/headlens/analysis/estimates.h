// headlens/analysis: drops and their intervals from paired verdicts.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Verdicts of every example under one intervention, or none.
struct SweepOutcome {
  std::vector<Verdict> verdicts;  ///< [example]
  int64_t correct() const;        ///< right answers
  double accuracy() const;        ///< 0 without examples
  double mean_logprob() const;    ///< of the right choice, nats
  int64_t near_ties() const;      ///< examples whose two best choices lie within kNearTie
};

/// The accuracy with its 95 % Wilson interval.
Estimate accuracy_estimate(const SweepOutcome& outcome);

/// Base accuracy - ablated accuracy over the same examples, with a 95 % interval for matched pairs
/// (Agresti and Min, Statistics in Medicine 24, 2005: half an example added to each cell of the 2 x
/// 2 table). ShapeError for outcomes of different length.
Estimate accuracy_drop(const SweepOutcome& base, const SweepOutcome& ablated);

/// Mean drop of the right choice's log-probability, nats. ShapeError as above.
double logprob_drop(const SweepOutcome& base, const SweepOutcome& ablated);
/// The same with its 95 % interval, mean +- 1.96 s / sqrt(n). ShapeError for fewer than two
/// examples.
Estimate logprob_drop_estimate(const SweepOutcome& base, const SweepOutcome& ablated);

}  // namespace headlens
