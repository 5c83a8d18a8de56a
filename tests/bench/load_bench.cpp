// headlens/bench: loading a checkpoint: seconds, and what it takes of the host's memory.
//
// load_bench DIR [--device cuda|cpu|cuda:0,cuda:1] [--dtype bfloat16]
// One load a process, the device woken up before. Prints one line that load_peer.py prints too.
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "headlens/core/device.h"
#include "headlens/model/language_model.h"

namespace headlens {
namespace {

/// A field of this process's status, in bytes.
double status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field + ":")) return std::stod(line.substr(field.size() + 1)) * 1024;
  }
  return 0;
}

std::vector<at::Device> parse_devices(const std::string& words) {
  std::vector<at::Device> devices;
  std::istringstream stream(words);
  for (std::string word; std::getline(stream, word, ',');) devices.push_back(parse_device(word));
  return devices;
}

/// Contexts are made and the allocators awake, so that neither is timed.
void wake(const std::vector<at::Device>& devices) {
  for (const at::Device& device : devices) {
    at::ones({1024, 1024}, device).sum().item<float>();
  }
}

void run(const std::string& dir, const LoadOptions& options) {
  wake(options.devices);
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak so far is forgotten
  const double resident = status_bytes("VmRSS"), own = status_bytes("RssAnon");
  const auto start = std::chrono::steady_clock::now();
  const LanguageModel model = LanguageModel::load(dir, options);
  for (const at::Device& device : options.devices) {
    if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  const auto bytes = static_cast<double>(model.weight_bytes());
  fmt::print("| {:<12} | {:>7.2f} | {:>6.2f} | {:>6.2f} | {:>6.2f} | {:>6.2f} |\n", "HeadLens",
             took.count(), bytes * 1e-9, bytes * 1e-9 / took.count(),
             (status_bytes("VmHWM") - resident) * 1e-9, (status_bytes("RssAnon") - own) * 1e-9);
}

}  // namespace
}  // namespace headlens

int main(int argc, char** argv) {
  try {
    headlens::LoadOptions options;
    options.devices = {headlens::default_device()};
    options.dtype = at::kBFloat16;
    for (int i = 2; i + 1 < argc; i += 2) {
      const std::string_view name = argv[i];
      if (name == "--device") options.devices = headlens::parse_devices(argv[i + 1]);
      if (name == "--dtype") options.dtype = headlens::parse_dtype(argv[i + 1]);
    }
    headlens::run(argc > 1 ? argv[1] : "", options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "load_bench: error: {}\n", error.what());
    return 1;
  }
}
