// headlens/analysis: from a residual inside the model to verdicts, for variants of a batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// A batch at the model's first layer, and the way out of its last one.
class JudgedRun {
 public:
  JudgedRun(const LanguageModel& model, const Objective& objective, int64_t index);

  const ObjectiveBatch& batch() const { return batch_; }
  const Tensor& resid() const { return resid_; }  // [row, pos, d_model], entering the first layer
  /// What the layers read besides, for that many copies of the rows.
  Prompt prompt(int64_t copies = 1) const;

  /// From the residual entering `layer`, [variant * row, pos, d_model], to verdicts
  /// [variant][example].
  std::vector<std::vector<Verdict>> finish(int64_t layer, const Tensor& resid,
                                           Tap* tap = nullptr) const;
  /// Puts the verdicts of this batch's examples where they belong.
  void store(const std::vector<Verdict>& verdicts, SweepOutcome& outcome) const;

 private:
  const LanguageModel& model_;
  const Objective& objective_;
  int64_t index_;
  const ObjectiveBatch& batch_;
  Tensor resid_;
  Prompt prompt_;
};

/// An outcome with room for every example.
SweepOutcome empty_outcome(const Objective& objective);

}  // namespace headlens
