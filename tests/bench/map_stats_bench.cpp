// headlens/tests: figures and rows of state-space maps at full size.
//
// map_stats_bench [--device cuda] [--json FILE] [--only TEXT] [--scale 1]
// The limit is the larger of two times: what is read and written once at the card's copy rate, and
// the products that have to be made at its rate of bf16 products. "replayed_ms" in the JSON is one
// call out of a recorded graph.
#include <c10/core/GradMode.h>

#include "bench/bench_tools.h"
#include "headlens/kernels/s6_map_stats.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_map_stats.h"

namespace headlens::bench {
namespace {

double larger_limit(const Ceilings& card, double bytes, double flop) {
  return std::max(bytes / card.bytes_per_ms, flop / card.flop_per_ms);
}

void time_row(const Flags& flags, Report& report, const std::string& what, double limit,
              const std::function<void()>& work) {
  nlohmann::json more = nlohmann::json::object();
  work();
  reset_peak(flags.device);
  const double before = peak_gib(flags.device);
  work();
  wait(flags.device);
  more["added_gib"] = peak_gib(flags.device) - before;
  report.kernel(what, limit, work, more);
}

/// Steps even in the logarithm and decays -1 to -16, as a fresh Mamba has them; or, slow, so small
/// that no key of a long row fades away.
Tensor random_steps(const Flags& flags, at::IntArrayRef shape, bool slow) {
  const auto options = at::TensorOptions(flags.device).dtype(at::kFloat);
  const double low = slow ? 1e-6 : 1e-3, high = slow ? 1e-4 : 0.1;
  return (at::rand(shape, options) * std::log(high / low) + std::log(low)).exp();
}

MapStatsRequest with_segments(const Flags& flags, int64_t pos, bool wanted) {
  MapStatsRequest request;
  if (!wanted) return request;
  const auto options = at::TensorOptions(flags.device).dtype(at::kLong);
  request.segments = (at::arange(pos, options) * 16).floor_divide(pos).unsqueeze(0);
  request.num_segments = 16;
  return request;
}

// A layer of Mamba-2 with d_model 4096: 128 heads x 64, state 128, one group.
void bench_ssd(const Flags& flags, const Ceilings& card, Report& report, int64_t length,
               const std::string& kind) {
  const std::string what =
      fmt::format("ssd map stats 128x64 state 128 1x{}{}", length, kind.empty() ? "" : ", " + kind);
  if (!flags.wants(what)) return;
  const int64_t pos = flags.scaled(length, 64), heads = 128, states = 128;
  const auto half = at::TensorOptions(flags.device).dtype(at::kBFloat16);
  const Tensor dt = random_steps(flags, {1, pos, heads}, kind == "slow decay");
  const Tensor log_decay = -dt * (at::rand({heads}, dt.options()) * 15 + 1);
  const Tensor B = at::randn({1, pos, 1, states}, half), C = at::randn({1, pos, 1, states}, half);
  const MapStatsRequest request = with_segments(flags, pos, kind == "16 segments");
  const double pairs = 0.5 * static_cast<double>(pos) * static_cast<double>(pos);
  const double outputs = kind == "16 segments" ? 88 : 24;
  const double bytes = static_cast<double>(pos) * (heads * (8 + outputs) + 4 * states);
  // C B^T once, and three products with the heads' weights.
  time_row(flags, report, what, larger_limit(card, bytes, pairs * (2.0 * states + 6.0 * heads)),
           [&] { ssd_map_stats(log_decay, dt, B, C, request); });
}

struct S6 {
  Tensor dt, A, B, C;

  S6(const Flags& flags, int64_t pos, int64_t channels) {
    const auto half = at::TensorOptions(flags.device).dtype(at::kBFloat16);
    dt = random_steps(flags, {1, pos, channels}, false).to(at::kBFloat16);
    A = -(at::rand({channels, 16}, half.dtype(at::kFloat)) * 15.5 + 0.5);
    B = at::randn({1, pos, 16}, half), C = at::randn({1, pos, 16}, half);
  }
};

// A layer of Mamba-130m, every row.
void bench_s6(const Flags& flags, const Ceilings& card, Report& report, int64_t length,
              const std::string& kind) {
  const std::string what =
      fmt::format("s6 map stats 1536x16 1x{}{}", length, kind.empty() ? "" : ", " + kind);
  if (!flags.wants(what)) return;
  const int64_t pos = flags.scaled(length, 64), channels = flags.scaled(1536, 64);
  const S6 in(flags, pos, channels);
  const MapStatsRequest request = with_segments(flags, pos, kind == "16 segments");
  const double entries = 0.5 * static_cast<double>(pos) * static_cast<double>(pos * channels);
  const double outputs = kind == "16 segments" ? 88 : 24;
  time_row(flags, report, what,
           larger_limit(card, static_cast<double>(pos * channels) * (2 + outputs), entries * 32),
           [&] { selective_scan_map_stats(in.dt, in.A, in.B, in.C, request); });
}

// The last token's rows of every channel: of a Falcon-Mamba-7B layer, or of Mamba-130m.
void bench_last_row(const Flags& flags, const Ceilings& card, Report& report, int64_t width,
                    int64_t length) {
  const std::string shape = fmt::format("{}x16 1x{}", width, length);
  if (!flags.wants("s6 map last row " + shape)) return;
  const int64_t pos = flags.scaled(length, 64), channels = flags.scaled(width, 64);
  const S6 in(flags, pos, channels);
  MapStatsRequest request;
  request.rows = at::full({1, 1}, pos - 1, in.dt.options().dtype(at::kLong));
  const double entries = static_cast<double>(pos * channels);
  time_row(flags, report, "s6 map last row " + shape, entries * 6 / card.bytes_per_ms,
           [&] { selective_scan_map_rows(in.dt, in.A, in.B, in.C, request.rows, {}); });
  time_row(flags, report, "s6 map last row " + shape + ", figures", entries * 2 / card.bytes_per_ms,
           [&] { selective_scan_map_stats(in.dt, in.A, in.B, in.C, request); });
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  using namespace headlens::bench;
  const c10::NoGradGuard no_grad;
  const Flags flags = Flags::parse(argc, argv);
  const Ceilings card = Ceilings::measure(flags);
  Report report(flags);
  for (const int64_t length : {512, 2048, 8192}) {
    for (const char* kind : {"", "slow decay", "16 segments"}) {
      bench_ssd(flags, card, report, length, kind);
    }
  }
  for (const int64_t length : {512, 2048}) {
    for (const char* kind : {"", "16 segments"}) bench_s6(flags, card, report, length, kind);
    bench_last_row(flags, card, report, 1536, length);
  }
  bench_last_row(flags, card, report, 8192, 32768);
  return 0;
}
