// headlens/analysis: what patched runs came to: figures, changes, and the error of estimates.
#pragma once

#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/analysis/patching.h"

namespace headlens {

/// A cell as it was run. Verdicts have numbers as of PairedRun.
struct PatchOutcome {
  SweepOutcome outcome;
  std::vector<double> estimated;  // [example]; with attribution
};

RunFigures run_figures(const SweepOutcome& outcome);
/// All of a cell's figures but the estimate.
void fill_figures(PatchCell& cell, const SweepOutcome& patched, const SweepOutcome& clean,
                  const SweepOutcome& corrupted, PatchDirection direction);
/// Of cells that all have estimates.
AttributionError attribution_error(const std::vector<PatchCell>& cells);

}  // namespace headlens
