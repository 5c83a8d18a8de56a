// headlens/analysis: many sets of heads, each cut together, several a forward.
#pragma once

#include <cstdint>
#include <vector>

#include "analysis/judged_run.h"
#include "analysis/replacements.h"
#include "headlens/analysis/ablation_sweep.h"

namespace headlens {

using HeadSetList = std::vector<HeadList>;

/// Runs sets of heads of chosen layers, each set as `ablate_jointly` would, with the layers before
/// the first one where the sets of a forward differ run once for all.
class SetSweep {
 public:
  /// `layers`: those in which heads are cut. Errors as of `ablate_jointly`.
  SetSweep(const LanguageModel& model, const Objective& objective,
           const std::vector<int64_t>& layers, const SweepOptions& options);

  /// One outcome for each set; an empty set is the untouched model.
  std::vector<SweepOutcome> run(const HeadSetList& sets);
  /// Sets that have been run over all examples.
  int64_t sets_run() const { return sets_run_; }

 private:
  std::vector<std::vector<Verdict>> run_some(const JudgedRun& run, const HeadOutputs& given,
                                             const HeadSetList& sets) const;

  const LanguageModel& model_;
  const Objective& objective_;
  SweepOptions options_;
  Replacements replacements_;
  int64_t sets_run_ = 0;
};

}  // namespace headlens
