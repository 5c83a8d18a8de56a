// headlens/kernels: a projection of the few rows that one step of decoding has.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

enum class KernelActivation { None, Silu, Gelu, GeluTanh, Relu, Relu2 };

/// Up to three matrices [rows, in], contiguous; null and 0 for those that are not there. `gated`:
/// matrices 0 and 1 are gate and up; else their rows follow each other, an even number where
/// another matrix follows.
struct DecodeMatrices {
  const void* weight[3];
  int64_t rows[3];
  int64_t in;
  bool gated;
};

/// y = act(x W^T + b) (+ residual), with x normed first where there is a norm weight; gated: y =
/// act(gate) * up. Sums are float32; results are rounded where a model that runs one
/// operation after another rounds them.
struct DecodeLinearParams {
  const void* x;            // [batch, in]
  const void* norm_weight;  // [in]: RMS norm of x; or null
  DecodeMatrices w;
  const void* bias[3];   // [rows] each, or null
  const void* residual;  // [batch, out], may be y itself; or null
  void* y;               // [batch, out]; gated: [batch, rows[0]]
  int64_t batch;
  float eps;
  bool plus_one;  // the norm multiplies by 1 + weight
  bool overlap;   // launch_decode_linear: the next kernel, another of these, may start beside this
  KernelActivation activation;
  KernelDtype dtype;
};

/// Widest `in` in bytes: a row of x waits in shared memory.
constexpr int64_t kMaxDecodeRowBytes = 128 * 1024;

/// Rows one by one, each a pass over the weights: for a single row, and for float32.
/// `in` a multiple of 16 bytes, pointers on 16 bytes.
cudaError_t launch_decode_linear(const DecodeLinearParams& params, cudaStream_t stream);

/// Eight rows a pass, on the tensor cores: float16 and bfloat16. Norms beforehand (no norm_weight).
cudaError_t launch_decode_linear_rows(const DecodeLinearParams& params, cudaStream_t stream);

}  // namespace headlens
