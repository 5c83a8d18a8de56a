// headlens/kernels: depthwise causal convolution over positions.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

struct CausalConvResult {
  at::Tensor y;      // [batch, pos, channel], before any activation
  at::Tensor state;  // [batch, d_conv - 1, channel]: the inputs the next position needs
};

/// y_t = bias + sum_k weight[:, k] x_{t - d_conv + 1 + k}. x [batch, pos, channel]; weight
/// [channel, d_conv]; bias [channel] or undefined; state [batch, d_conv - 1, channel] or undefined
/// (zeros). Differentiable.
CausalConvResult causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, const at::Tensor& state);

}  // namespace headlens
