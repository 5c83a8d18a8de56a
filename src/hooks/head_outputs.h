// headlens/hooks: head outputs in one shape for all kinds of layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "headlens/core/dtype.h"
#include "headlens/model/site.h"

namespace headlens {

/// [batch, pos, head, width] as it is; Mamba-1's [batch, pos, channel] with width 1. A view.
Tensor as_heads(const Tensor& value);

/// Outputs a user gives for a layer, brought to a shape that broadcasts to `own` [batch, pos, head,
/// width]: from [head, width], [batch, pos, head, width] or, for Mamba-1, those without the width.
/// ShapeError for any other.
Tensor fit_outputs(const Tensor& given, const Tensor& own, int64_t layer);

/// HookError unless the site of an intervention fired and the intervention covered something there.
void check_one_touched(TapPoint point, int64_t fired, int64_t touched);

}  // namespace headlens
