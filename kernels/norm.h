// headlens/kernels: root-mean-square norms of rows, with the addition before them or a gate.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// sum = x + addend (where there is an addend); out = weight * round(sum / rms(sum)), or with
/// plus_one round(sum / rms(sum) * (1 + weight)). Rows of `width`, strides in elements.
struct RmsNormParams {
  const void* x;       // x_dtype, row stride x_stride
  const void* addend;  // out_dtype, row stride addend_stride; or null
  const void* weight;  // out_dtype [width]
  void* sum;           // x_dtype, contiguous; null without an addend
  void* out;           // out_dtype, contiguous
  int64_t rows, width, x_stride, addend_stride;
  float eps;
  bool plus_one;
  KernelDtype x_dtype, out_dtype;  // x_dtype is out_dtype or float32
};
cudaError_t launch_rms_norm(const RmsNormParams& params, cudaStream_t stream);

/// Where the gate silu(g) comes in.
enum class GateOrder { GateOnly, GateFirst, NormFirst };

/// GateOnly: y silu(g); GateFirst: weight * norm(y silu(g)); NormFirst: weight * norm(y) silu(g);
/// the norm over each of `groups` equal parts of a row.
struct GatedNormParams {
  const void* y;       // y_dtype, row stride y_stride
  const void* gate;    // out_dtype, row stride gate_stride
  const void* weight;  // out_dtype [width]; unused for GateOnly
  void* out;           // out_dtype, contiguous
  int64_t rows, width, groups, y_stride, gate_stride;
  float eps;
  GateOrder order;
  KernelDtype y_dtype, out_dtype;  // y_dtype is out_dtype or float32
};
cudaError_t launch_gated_norm(const GatedNormParams& params, cudaStream_t stream);

}  // namespace headlens
