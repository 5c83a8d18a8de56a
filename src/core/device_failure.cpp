// headlens/core: whether a GPU has stopped working in the middle of a run.
#include "core/device_failure.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <fmt/format.h>

#include "headlens/core/device.h"

namespace headlens {

std::string device_failure() {
  for (int i = 0; i < cuda_device_count(); ++i) {
    const auto index = static_cast<c10::DeviceIndex>(i);
    try {
      const bool in_use = at::detail::getCUDAHooks().hasPrimaryContext(index);
      if (in_use) at::accelerator::synchronizeDevice(index);
    } catch (const c10::Error& e) {
      const std::string said = e.what_without_backtrace();
      return fmt::format("cuda:{}: {}", i, said.substr(0, said.find('\n')));
    }
  }
  return {};
}

}  // namespace headlens
