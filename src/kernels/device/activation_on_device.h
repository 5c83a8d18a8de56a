// headlens/kernels: gated activations on a device, after the tensors were checked.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/kinds.h"

namespace headlens {

/// As gated_activation; both of one dtype that has device code.
Tensor gated_activation_on_device(const Tensor& gate, const Tensor& up, Activation activation);

}  // namespace headlens
