// headlens/kernels: a projection of the few rows that one step of decoding has.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

enum class KernelActivation { None, Silu, Gelu, GeluTanh, Relu, Relu2 };

/// y = act(x W^T + b) (+ residual), with x normed first where there is a norm weight. Where `gated`,
/// matrices 0 and 1 are gate and up: y = act(gate) * up. Else the rows of up to three matrices (q,
/// k, v) follow each other in y. Sums are float32; results are rounded where a model that runs one
/// operation after another rounds them.
struct DecodeLinearParams {
  const void* x;            // [batch, in]
  const void* norm_weight;  // [in]: RMS norm of x; or null
  const void* weight[3];    // [rows, in] each, or null; contiguous
  const void* bias[3];      // [rows] each, or null
  const void* residual;     // [batch, out], may be y itself; or null
  void* y;                  // [batch, out]; gated: [batch, rows[0]]
  int64_t in, batch;
  int64_t rows[3];  // even where another matrix follows
  float eps;
  int early;  // trigger
  bool plus_one;  // the norm multiplies by 1 + weight
  bool gated;
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
