// headlens/kernels: what every launch of our own device code shares.
#include "kernels/device/launch.h"

#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "core/check.h"

namespace headlens {

KernelDtype kernel_dtype(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return KernelDtype::Float32;
    case at::kHalf:
      return KernelDtype::Float16;
    case at::kBFloat16:
      return KernelDtype::BFloat16;
    default:
      HEADLENS_FAIL(ShapeError, "[device] dtype, expected float32, float16 or bfloat16, got {}",
                    dtype_name(dtype));
  }
}

DeviceLaunch::DeviceLaunch(const Tensor& on)
    : before_(c10::cuda::ExchangeDevice(on.device().index())),
      stream_(c10::cuda::getCurrentCUDAStream(on.device().index()).stream()) {}

DeviceLaunch::~DeviceLaunch() {
  c10::cuda::MaybeExchangeDevice(static_cast<c10::DeviceIndex>(before_));
}

void DeviceLaunch::check(const char* what, cudaError_t status) const {
  HEADLENS_CHECK(DeviceError, status == cudaSuccess, "[{}] launch, expected success, got {}", what,
                 cudaGetErrorString(status));
}

}  // namespace headlens
