// headlens/kernels: depthwise causal convolution over positions.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

/// What a causal convolution gives, and what its next call goes on from.
struct CausalConvResult {
  at::Tensor y;      ///< [batch, pos, channel], before any activation
  at::Tensor state;  ///< [batch, d_conv - 1, channel]: the inputs the next position needs
};

/// y_t = bias + sum_k weight[:, k] x_{t - d_conv + 1 + k}. x [batch, pos, channel]; weight
/// [channel, d_conv]; bias [channel] or undefined; state [batch, d_conv - 1, channel] or undefined
/// (zeros). Differentiable.
CausalConvResult causal_conv1d(const at::Tensor& x, const at::Tensor& weight,
                               const at::Tensor& bias, const at::Tensor& state);

/// The same with silu behind it.
struct CausalConvSiluResult {
  at::Tensor y;      ///< [batch, pos, channel], before silu; undefined unless kept
  at::Tensor silu;   ///< [batch, pos, channel], rounded once
  at::Tensor state;  ///< [batch, d_conv - 1, channel]
};

/// silu(causal_conv1d(..)), in one pass on a GPU; with `keep_y` what stands before silu too.
/// Differentiable.
CausalConvSiluResult causal_conv1d_silu(const at::Tensor& x, const at::Tensor& weight,
                                        const at::Tensor& bias, const at::Tensor& state,
                                        bool keep_y);

/// The same for one position of a decoder: x [batch, 1, channel]. `state`, contiguous and in x's
/// dtype, is advanced in place, so that a recorded graph finds it there. Records no gradients.
CausalConvSiluResult causal_conv1d_silu_step(const at::Tensor& x, const at::Tensor& weight,
                                             const at::Tensor& bias, at::Tensor& state,
                                             bool keep_y);

}  // namespace headlens
