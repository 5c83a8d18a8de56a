// headlens/kernels: what both projections of decoding share: which rows, and what follows the sum.
#pragma once

#include "common/vector.cuh"
#include "decode_linear.h"
#include "decode_unpack.cuh"

namespace headlens {

/// Rows of all matrices together.
__host__ __device__ inline int64_t total_rows(const DecodeMatrices& w) {
  return w.rows[0] + w.rows[1] + w.rows[2];
}
/// Rows of y.
__host__ __device__ inline int64_t output_rows(const DecodeMatrices& w) {
  return w.gated ? w.rows[0] : total_rows(w);
}

/// Row `row` of the matrices one below the other.
template <typename T>
__device__ __forceinline__ const T* weight_row(const DecodeMatrices& w, int64_t row) {
  const bool past0 = row >= w.rows[0], past1 = past0 && row >= w.rows[0] + w.rows[1];
  const void* weight = past1 ? w.weight[2] : past0 ? w.weight[1] : w.weight[0];
  row -= (past0 ? w.rows[0] : 0) + (past1 ? w.rows[1] : 0);
  return static_cast<const T*>(weight) + row * w.in;
}

/// `sum` and the bias of row `row`, rounded.
template <typename T>
__device__ __forceinline__ float with_bias(const DecodeLinearParams& p, float sum, int64_t row) {
  const bool past0 = row >= p.w.rows[0], past1 = past0 && row >= p.w.rows[0] + p.w.rows[1];
  const void* bias = past1 ? p.bias[2] : past0 ? p.bias[1] : p.bias[0];
  row -= (past0 ? p.w.rows[0] : 0) + (past1 ? p.w.rows[1] : 0);
  return rounded<T>(bias != nullptr ? sum + to_float(static_cast<const T*>(bias)[row]) : sum);
}

__device__ __forceinline__ float activate(float x, KernelActivation activation) {
  switch (activation) {
    case KernelActivation::Silu:
      return silu(x);
    case KernelActivation::Gelu:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case KernelActivation::GeluTanh:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case KernelActivation::Relu:
      return fmaxf(x, 0);
    case KernelActivation::Relu2:
      return fmaxf(x, 0) * fmaxf(x, 0);
    default:
      return x;
  }
}

}  // namespace headlens
