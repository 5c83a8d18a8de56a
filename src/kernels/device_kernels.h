// headlens/kernels: whether our own device code serves a tensor.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

/// Whether this build has device code. Calls of functions of kernels/device stand in
/// `if constexpr (kDeviceKernels)`, so that a build without it does not look for them.
#ifdef HEADLENS_DEVICE_KERNELS
constexpr bool kDeviceKernels = true;
#else
constexpr bool kDeviceKernels = false;
#endif

/// True for a CUDA tensor of float32, float16 or bfloat16 in a build that has device code. float64
/// and other devices take LibTorch's operations.
inline bool has_device_kernel(const at::Tensor& x) {
  return kDeviceKernels && x.is_cuda() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kHalf ||
          x.scalar_type() == at::kBFloat16);
}

}  // namespace headlens
