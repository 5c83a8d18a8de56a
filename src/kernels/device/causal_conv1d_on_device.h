// headlens/kernels: the causal convolution on a device, with gradients, after the checks.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/causal_conv1d.h"

namespace headlens {

struct ConvArguments {
  Tensor x, weight, bias, state;
};

/// Everything on one CUDA device, nothing in float64, at most eight taps.
bool conv_fits_device(const ConvArguments& in);

/// y where wanted, and silu; with gradients where they are recorded.
CausalConvSiluResult causal_conv1d_on_device(const ConvArguments& in, bool y, bool silu);

/// One position, `state` (x's dtype, contiguous) in place, without gradients.
CausalConvSiluResult causal_conv1d_step_on_device(const ConvArguments& in, Tensor& state,
                                                  bool keep_y);

}  // namespace headlens
