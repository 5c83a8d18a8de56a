// headlens/kernels: the causal convolution made of single operations.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/causal_conv1d.h"

namespace headlens {

/// y, silu and the last state; autograd sees each operation.
CausalConvSiluResult causal_conv1d_composed(const Tensor& x, const Tensor& weight,
                                            const Tensor& bias, const Tensor& state);

}  // namespace headlens
