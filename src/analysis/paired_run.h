// headlens/analysis: a clean and a corrupted run of the same examples, judged alike.
#pragma once

#include <memory>

#include "headlens/model/objective.h"

namespace headlens {

/// The prompts of one of two objectives with the verdicts of the clean one. Verdict::numbers is
/// {difference}: the log-probability of the clean run's answer less that of the corrupted run's.
class PairedRun final : public Objective {
 public:
  PairedRun(const Objective& prompts, const Objective& clean, const Objective& corrupted)
      : prompts_(prompts), clean_(clean), corrupted_(corrupted) {}

  int64_t example_count() const override { return clean_.example_count(); }
  int64_t batch_count() const override { return clean_.batch_count(); }
  const ObjectiveBatch& batch(int64_t index) const override { return prompts_.batch(index); }
  const PromptInfo& prompt(int64_t example) const override { return prompts_.prompt(example); }
  std::vector<std::vector<Verdict>> judge(int64_t batch, const Tensor& logits,
                                          int64_t variants) const override;
  /// The difference of each of the batch's examples, [i] float64, differentiable in the logits.
  Tensor difference(int64_t batch, const Tensor& logits) const;

 private:
  const Objective &prompts_, &clean_, &corrupted_;
};

/// ShapeError, naming the batch or example, unless both have the same rows but for their prompts'
/// tokens.
void check_same_rows(const Objective& clean, const Objective& corrupted);

}  // namespace headlens
