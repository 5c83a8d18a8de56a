// headlens/core: device names and what this machine has.
#pragma once

#include <c10/core/Device.h>

#include <string_view>

namespace headlens {

/// Reads "cpu", "cuda" (device 0) or "cuda:N". Throws DeviceError for another name, and when the
/// build or the machine lacks that device, saying which of the two it is.
at::Device parse_device(std::string_view name);

/// "cuda:0" if there is one, else "cpu".
at::Device default_device();

/// True if LibTorch was built with CUDA and sees at least one device.
bool cuda_available();

/// CUDA devices that LibTorch sees; 0 without CUDA.
int cuda_device_count();

}  // namespace headlens
