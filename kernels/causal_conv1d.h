// headlens/kernels: depthwise causal convolution over positions, channels innermost.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

constexpr int64_t kMaxConvWidth = 8;

/// pre_t = bias + sum_k weight[:, k] x_{t - width + 1 + k}; strides in elements, channels
/// innermost.
struct ConvInputs {
  const void* x;       // dtype [batch, pos, channel], with these strides
  const void* weight;  // weight_dtype [channel, width]
  const void* bias;    // weight_dtype [channel] or null
  const void* state;   // dtype [batch, width - 1, channel] or null: zeros
  int64_t batch, pos, channels, width, x_batch_stride, x_pos_stride;
  KernelDtype dtype, weight_dtype;  // weight_dtype is dtype or float32
};

struct ConvForwardParams {
  ConvInputs in;
  void* y;      // pre, dtype [batch, pos, channel]; or null
  void* silu;   // silu(pre), likewise
  void* state;  // dtype [batch, width - 1, channel]: the last inputs; in.state too where pos is 1
};
cudaError_t launch_causal_conv1d(const ConvForwardParams& params, cudaStream_t stream);

/// Positions a block of the backward covers; it leaves one row of partial sums.
int64_t conv_backward_rows(const ConvInputs& in);

/// Gradients; in: of y, silu and state (each may be null), out: of everything read.
struct ConvBackwardParams {
  ConvInputs in;
  const void* grad_y;      // dtype [batch, pos, channel], contiguous
  const void* grad_silu;   // likewise
  const void* grad_state;  // dtype [batch, width - 1, channel]
  void* grad_x;            // dtype [batch, pos, channel], contiguous
  void* grad_weight;       // weight_dtype [channel, width]
  void* grad_bias;         // weight_dtype [channel] or null
  void* grad_before;       // dtype [batch, width - 1, channel] or null: of in.state
  float* partial;          // [conv_backward_rows, width + 1, channel]: workspace
};
cudaError_t launch_causal_conv1d_backward(const ConvBackwardParams& params, cudaStream_t stream);

}  // namespace headlens
