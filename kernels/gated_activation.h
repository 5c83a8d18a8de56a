// headlens/kernels: an activation times the other half of a gated MLP.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

enum class GateFunction { Silu, Gelu, GeluTanh, Relu, Relu2 };

/// out = round(f(gate)) * up, rows of `width`, strides in elements.
struct GatedActivationParams {
  const void* gate;
  const void* up;
  void* out;  // contiguous
  int64_t rows, width, gate_stride, up_stride;
  GateFunction function;
  KernelDtype dtype;
};
cudaError_t launch_gated_activation(const GatedActivationParams& params, cudaStream_t stream);

}  // namespace headlens
