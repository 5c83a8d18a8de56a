// headlens/kernels: activations of feed-forward layers.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/kernels/kinds.h"

namespace headlens {

/// [..] -> [..]
at::Tensor activate(const at::Tensor& x, Activation activation);

/// activate(gate) * up, in one pass where the device has our code: [.., width] each.
/// Differentiable.
at::Tensor gated_activation(const at::Tensor& gate, const at::Tensor& up, Activation activation);

}  // namespace headlens
