// headlens/kernels: what both projections of decoding share: which rows, and what follows the sum.
#pragma once

#include "common/vector.cuh"
#include "decode_linear.h"
#include "decode_unpack.cuh"

namespace headlens {

/// Rows of all matrices together.
__host__ __device__ inline int64_t total_rows(const DecodeLinearParams& p) {
  return p.rows[0] + p.rows[1] + p.rows[2];
}
/// Rows of y.
__host__ __device__ inline int64_t output_rows(const DecodeLinearParams& p) {
  return p.gated ? p.rows[0] : total_rows(p);
}

/// A row of one of the matrices.
template <typename T>
struct WeightRow {
  const T* weight;
  const T* bias;  // its one element, or null
};

/// Row `row` of the matrices one below the other.
template <typename T>
__device__ __forceinline__ WeightRow<T> weight_row(const DecodeLinearParams& p, int64_t row) {
  const bool past0 = row >= p.rows[0], past1 = past0 && row >= p.rows[0] + p.rows[1];
  const void* weight = past1 ? p.weight[2] : past0 ? p.weight[1] : p.weight[0];
  const void* bias = past1 ? p.bias[2] : past0 ? p.bias[1] : p.bias[0];
  row -= (past0 ? p.rows[0] : 0) + (past1 ? p.rows[1] : 0);
  return {static_cast<const T*>(weight) + row * p.in,
          bias != nullptr ? static_cast<const T*>(bias) + row : nullptr};
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

template <typename T>
__device__ __forceinline__ float with_bias(float sum, const T* bias) {
  return rounded<T>(bias != nullptr ? sum + to_float(*bias) : sum);
}

}  // namespace headlens
