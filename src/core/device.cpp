// headlens/core: device names and what this machine has.
#include "headlens/core/device.h"

#include <ATen/detail/CUDAHooksInterface.h>

#include <charconv>
#include <limits>
#include <system_error>

#include "core/check.h"

namespace headlens {
namespace {

/// The index in "cuda:N", 0 for "cuda", -1 for anything else.
int parse_cuda_index(std::string_view name) {
  constexpr std::string_view kCuda = "cuda";
  if (name == kCuda) return 0;
  if (!name.starts_with("cuda:") || name.size() == kCuda.size() + 1) return -1;
  const std::string_view digits = name.substr(kCuda.size() + 1);
  const char* const end = digits.data() + digits.size();
  int index = -1;
  const auto [stop, status] = std::from_chars(digits.data(), end, index);
  const bool whole = status == std::errc() && stop == end && digits.front() != '-';
  return whole && index <= std::numeric_limits<at::DeviceIndex>::max() ? index : -1;
}

}  // namespace

at::Device parse_device(std::string_view name) {
  if (name == "cpu") return at::Device(at::kCPU);
  const int index = parse_cuda_index(name);
  HEADLENS_CHECK(DeviceError, index >= 0,
                 "[parse_device] device, expected 'cpu', 'cuda' or 'cuda:N', got '{}'", name);
  HEADLENS_CHECK(DeviceError, at::detail::getCUDAHooks().hasCUDART(),
                 "[parse_device] device '{}', expected a LibTorch built with CUDA, got one for the "
                 "CPU only",
                 name);
  const int count = cuda_device_count();
  HEADLENS_CHECK(DeviceError, index < count,
                 "[parse_device] device '{}', expected at least {} visible CUDA device(s), got {}",
                 name, index + 1, count);
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

at::Device default_device() {
  return cuda_available() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
}

bool cuda_available() {
  return cuda_device_count() > 0;
}

int cuda_device_count() {
  const auto& hooks = at::detail::getCUDAHooks();
  return hooks.hasCUDA() ? hooks.getNumGPUs() : 0;
}

}  // namespace headlens
