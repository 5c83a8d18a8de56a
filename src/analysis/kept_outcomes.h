// headlens/analysis: outcomes over all examples as the result of one step that is kept.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/estimates.h"
#include "headlens/core/kept_steps.h"

namespace headlens {

/// Verdicts without numbers of their own.
std::vector<SweepOutcome> kept_outcomes(const KeptSteps& steps, const std::string& key,
                                        const std::function<std::vector<SweepOutcome>()>& compute);

/// A sweep's base and variants, likewise; its memory figures are those of the run that did it.
SweepResult kept_sweep(const KeptSteps& steps, const std::string& key,
                       const std::function<SweepResult()>& compute);

}  // namespace headlens
