// headlens/kernels: rotation of query and key heads by position.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// out[.., i] = x[.., i] cos - x[.., i + half] sin, out[.., i + half] = x[.., i + half] cos +
/// x[.., i] sin; dimensions from 2 half on are copied.
struct RotaryParams {
  const void* x;     // [batch, pos, head, d_head], d_head contiguous
  const float* cos;  // [batch or 1, pos, half]
  const float* sin;
  void* out;  // [batch, pos, head, d_head] contiguous
  int64_t batch, pos, heads, d_head, half;
  int64_t x_batch, x_pos, x_head;  // strides in elements
  int64_t table_batch;             // stride of cos and sin over batch; 0 where all rows share them
  KernelDtype dtype;
};
cudaError_t launch_rotary(const RotaryParams& params, cudaStream_t stream);

}  // namespace headlens
