// headlens/analysis: ablation that stops testing heads which are sure not to matter.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Tests "the mean of n values in [-1, 1] is at least `least`" while they are drawn one by one, in
/// random order and without replacement. `evidence` is a test martingale: a mixture of bets that
/// the next value falls short of the mean that those not yet drawn would need (Waudby-Smith and
/// Ramdas, "Estimating means of bounded random variables by betting", 2024, and their paper on
/// sampling without replacement, 2020). If the claim is true, the chance that it ever reaches 1 / a
/// is at most a (Ville), so one may look after every value.
class ShortfallTest {
 public:
  /// Of n values; `least` is what their mean is claimed to be.
  ShortfallTest(int64_t n, double least);
  /// The next value drawn, in [-1, 1].
  void add(double value);
  double log_evidence() const;  ///< infinite once the claim cannot be true any more

 private:
  int64_t left_;
  double needed_;  // the sum that the values left must reach
  bool impossible_ = false;
  std::vector<double> log_wealth_;  // [bet]
};

/// How sequential testing looks at the examples.
struct SequentialLooks {
  double alpha = 0.05;               ///< of stopping any head whose drop does reach min_drop
  std::vector<ObjectivePart> parts;  ///< all examples, each once, in random order
};

/// A sweep that stopped early where it could.
struct SequentialResult {
  SweepResult swept;  ///< verdicts in the order of the parts; of a stopped target the first
  std::vector<int64_t> examples;  ///< [target] how many
};

/// Ablates each target alone, part by part. After each part, targets are dropped whose accuracy
/// drop over all the examples is sure to stay below `min_drop`. With probability at least 1 - alpha
/// over the order of the examples no target whose drop would reach it is among them (alpha is
/// divided by the number of targets). UsageError for a mode other than zero (what the others put in
/// would depend on the parts) or an alpha outside 0 to 1.
SequentialResult sequential_sweep(const LanguageModel& model, const SequentialLooks& looks,
                                  const std::vector<HeadId>& targets, double min_drop,
                                  const SweepOptions& options = {});

}  // namespace headlens
