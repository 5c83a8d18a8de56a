// headlens/tests: what benchmark programs share: flags, clocks and the table they print.
#pragma once

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/device.h"
#include "headlens/core/dtype.h"
#include "headlens/core/error.h"
#include "headlens/kernels/device_graph.h"

namespace headlens::bench {

/// --device D, --dtype T, --json FILE, --only TEXT and --scale S, as every program takes them.
struct Flags {
  at::Device device = default_device();
  at::ScalarType dtype = at::kBFloat16;
  double scale = 1;  // below 1: a toy of the same make-up, to try a program where there is no GPU
  std::string json;
  std::string only;

  static Flags parse(int argc, char** argv) {
    Flags flags;
    for (int i = 1; i + 1 < argc; i += 2) {
      const std::string_view name = argv[i];
      if (name == "--device") flags.device = parse_device(argv[i + 1]);
      if (name == "--dtype") flags.dtype = parse_dtype(argv[i + 1]);
      if (name == "--scale") flags.scale = std::stod(argv[i + 1]);
      if (name == "--json") flags.json = argv[i + 1];
      if (name == "--only") flags.only = argv[i + 1];
    }
    return flags;
  }
  bool wants(const std::string& what) const { return what.find(only) != std::string::npos; }
  int64_t scaled(int64_t whole, int64_t least) const {
    return std::max(least, static_cast<int64_t>(static_cast<double>(whole) * scale));
  }
};

inline void wait(at::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

/// Milliseconds of one call, by the device's clock on CUDA and the host's elsewhere.
inline double time_once(at::Device device, const std::function<void()>& work) {
  if (device.is_cuda()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    const auto make = [&] { return c10::Event(device.type(), c10::EventFlag::BACKEND_DEFAULT); };
    c10::Event start = make(), end = make();
    wait(device);
    start.record(guard.getStream(device));
    work();
    end.record(guard.getStream(device));
    wait(device);
    return start.elapsedTime(end);
  }
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

/// Median of `runs` timings after two that are not counted; each of `calls` calls in a row, so that
/// what short kernels cost is not their launch.
inline double median_ms(at::Device device, int runs, const std::function<void()>& work,
                        int calls = 1) {
  work();
  work();
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const double ms = time_once(device, [&] {
      for (int call = 0; call < calls; ++call) work();
    });
    times.push_back(ms / calls);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

/// Milliseconds of one call out of a recorded graph of `calls`: what the GPU works, no launch
/// waited for. 0 where nothing can be recorded.
inline double replayed_ms(at::Device device, const std::function<void()>& work, int calls) {
  if (!DeviceGraph::can_record(device)) return 0;
  try {
    const auto graph = DeviceGraph::record(device, [&] {
      for (int call = 0; call < calls; ++call) work();
    });
    return median_ms(device, 20, [&] { graph->replay(); }) / calls;
  } catch (const DeviceError& error) {
    fmt::print(stderr, "not recorded: {}\n", error.what());
    return 0;
  }
}

/// What this card does at best: a large copy (bytes read and written) and a bf16 product.
struct Ceilings {
  double bytes_per_ms = 0;
  double flop_per_ms = 0;

  static Ceilings measure(const Flags& flags) {
    const int64_t width = flags.scaled(8192, 256), bytes = width * width * 8;
    const auto half = at::TensorOptions(flags.device).dtype(at::kBFloat16);
    const Tensor a = at::randn({width, width}, half), b = at::randn({width, width}, half);
    Tensor out = at::empty_like(a);
    const double product = median_ms(flags.device, 10, [&] { at::matmul_out(out, a, b); });
    const Tensor from = at::empty({bytes}, half.dtype(at::kByte));
    Tensor to = at::empty_like(from);
    const double copy = median_ms(flags.device, 10, [&] { to.copy_(from); });
    return {2.0 * static_cast<double>(bytes) / copy,
            2.0 * static_cast<double>(width * width * width) / product};
  }
};

inline double peak_gib(at::Device device) {
  if (device.is_cpu()) return 0;
  const auto stats = at::accelerator::getDeviceStats(device.index());
  return static_cast<double>(stats.allocated_bytes[0].peak) / (1024.0 * 1024 * 1024);
}
inline void reset_peak(at::Device device) {
  if (!device.is_cpu()) at::accelerator::resetPeakStats(device.index());
}

/// Prints rows as they come, and keeps them for --json: [{"what", "ms", "limit_ms", ..}].
class Report {
 public:
  explicit Report(Flags flags) : flags_(std::move(flags)) {
    fmt::print("| {:<52} | {:>10} | {:>10} | {:>8} |\n| --- | --- | --- | --- |\n", "what", "ms",
               "limit ms", "fraction");
  }
  ~Report() {
    if (flags_.json.empty()) return;
    std::ofstream(flags_.json) << rows_.dump(1) << "\n";
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  /// `limit_ms` <= 0: none is known.
  void row(const std::string& what, double ms, double limit_ms,
           const nlohmann::json& more = nlohmann::json::object()) {
    const bool limited = limit_ms > 0;
    fmt::print("| {:<52} | {:>10.4f} | {:>10} | {:>8} |\n", what, ms,
               limited ? fmt::format("{:.4f}", limit_ms) : "-",
               limited ? fmt::format("{:.2f}", limit_ms / ms) : "-");
    std::fflush(stdout);
    nlohmann::json row = {{"what", what}, {"ms", ms}};
    if (limited) row["limit_ms"] = limit_ms;
    row.update(more);
    rows_.push_back(std::move(row));
  }

  /// A kernel: as called, ten times in a row, and out of a recorded graph ("replayed_ms").
  void kernel(const std::string& what, double limit_ms, const std::function<void()>& work,
              nlohmann::json more = nlohmann::json::object()) {
    const double called = median_ms(flags_.device, 20, work, /*calls=*/10);
    const double replayed = replayed_ms(flags_.device, work, called > 4 ? 1 : 10);
    if (replayed > 0) more["replayed_ms"] = replayed;
    row(what, called, limit_ms, more);
    if (replayed > 0) fmt::print("  replayed: {:.4f} ms\n", replayed);
  }

 private:
  Flags flags_;
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace headlens::bench
