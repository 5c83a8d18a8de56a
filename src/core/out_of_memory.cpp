// headlens/core: which of LibTorch's errors say that there is no more memory.
#include "core/out_of_memory.h"

#include <ATen/DeviceAccelerator.h>
#include <c10/util/Exception.h>

#include <new>
#include <string_view>

#include "core/device_failure.h"

namespace headlens {

namespace {

bool speaks_of_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  if (torch == nullptr) return false;
  const std::string_view said = torch->what_without_backtrace();
  // The CPU's allocator; the driver, outside of LibTorch's pool; cuBLAS's own workspace.
  for (const char* words : {"you tried to allocate", "out of memory", "_ALLOC_FAILED"}) {
    if (said.find(words) != std::string_view::npos) return true;
  }
  return false;
}

}  // namespace

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return true;
  // A GPU that is gone gives no memory either: smaller batches would not help.
  return speaks_of_memory(error) && device_failure().empty();
}

void release_memory() {
  if (at::accelerator::deviceCount() > 0) at::accelerator::emptyCache();
}

}  // namespace headlens
