// headlens/cli: the most memory that a stretch of work has held.
#include "cli/peak_memory.h"

#include <ATen/DeviceAccelerator.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace headlens::cli {
namespace {

bool on_cpu(const std::vector<at::Device>& devices) {
  return std::all_of(devices.begin(), devices.end(), [](at::Device d) { return d.is_cpu(); });
}

/// "VmHWM:     1234 kB" of Linux; 0 elsewhere.
int64_t resident_peak() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

void reset_peak_memory(const std::vector<at::Device>& devices) {
  if (on_cpu(devices)) std::ofstream("/proc/self/clear_refs") << 5;  // VmHWM becomes VmRSS
  for (const at::Device& device : devices) {
    if (!device.is_cpu()) at::accelerator::resetPeakStats(device.index());
  }
}

int64_t peak_memory(const std::vector<at::Device>& devices) {
  if (on_cpu(devices)) return resident_peak();
  int64_t most = 0;
  for (const at::Device& device : devices) {
    if (device.is_cpu()) continue;
    const auto stats = at::accelerator::getDeviceStats(device.index());
    most = std::max(most, stats.allocated_bytes[0].peak);
  }
  return most;
}

}  // namespace headlens::cli
