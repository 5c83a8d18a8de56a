// headlens/cli: where numbers stop being numbers.
#pragma once

#include <ATen/core/Tensor.h>

#include "cli/common.h"

namespace headlens::cli {

/// Runs these ids [batch, pos] once, before the work. Error naming the first weight that is NaN or
/// infinite if the logits are, or where in the forward the first such number arises.
void check_finite(const LoadedModel& loaded, const Tensor& ids);

}  // namespace headlens::cli
