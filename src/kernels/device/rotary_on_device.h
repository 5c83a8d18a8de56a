// headlens/kernels: rotary positions on a device, after the tensors were checked.
#pragma once

#include "headlens/core/dtype.h"

namespace headlens {

/// As rotate_heads; cos and sin float32, x with contiguous heads.
Tensor rotate_on_device(const Tensor& x, const Tensor& cos, const Tensor& sin);

}  // namespace headlens
