// headlens/kernels: what every launch of our own device code shares.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_runtime.h>

#include "common/dtype.h"
#include "headlens/core/dtype.h"

namespace headlens {

/// ShapeError for a dtype that device code does not take.
KernelDtype kernel_dtype(at::ScalarType dtype);

/// Makes the tensor's device the current one while it lives, and knows its current stream.
class DeviceLaunch {
 public:
  explicit DeviceLaunch(const Tensor& on);
  ~DeviceLaunch();
  DeviceLaunch(const DeviceLaunch&) = delete;
  DeviceLaunch& operator=(const DeviceLaunch&) = delete;

  cudaStream_t stream() const { return stream_; }
  /// DeviceError naming `what` unless the launch was taken.
  void check(const char* what, cudaError_t status) const;

 private:
  int before_;
  cudaStream_t stream_;
};

/// The data of a tensor of type T; null for an undefined tensor.
template <typename T = void>
T* data_of(const Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

}  // namespace headlens
