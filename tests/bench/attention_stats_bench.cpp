// headlens/bench: figures of all attention rows, of one layer of Llama-3.1-8B's shape.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <functional>

#include "bench/bench_tools.h"
#include "headlens/kernels/attention_stats.h"
#include "headlens/kernels/attention_with_stats.h"

namespace headlens::bench {
namespace {

constexpr int64_t kHeads = 32, kKvHeads = 8, kWidth = 128, kSegments = 16;

struct Layer {
  Layer(const Flags& flags, int64_t batch, int64_t queries, int64_t keys)
      : q(random(flags, batch, queries, kHeads)), k(random(flags, batch, keys, kKvHeads)) {}

  static Tensor random(const Flags& flags, int64_t batch, int64_t positions, int64_t heads) {
    const bool half = flags.device.is_cuda();
    return at::randn({batch, positions, heads, kWidth},
                     at::TensorOptions(flags.device).dtype(half ? at::kBFloat16 : at::kFloat));
  }
  AttentionRule rule() const { return {.scale = 1 / std::sqrt(static_cast<double>(kWidth))}; }

  Tensor q, k;
};

/// Segments of equal length, their ends nowhere near the ends of tiles.
Tensor segments_of(const Layer& layer) {
  const int64_t keys = layer.k.size(1);
  const Tensor at = at::arange(keys, layer.k.options().dtype(at::kLong)) + 77;
  return (at * kSegments).floor_divide(keys + 77).unsqueeze(0);
}

void all_rows(const Flags& flags, const Ceilings& best, Report& report, int64_t length) {
  const std::string what = fmt::format("attention_stats 32x8x128 1x{}", length);
  if (!flags.wants(what)) return;
  const int64_t rows = flags.scaled(length, 64);
  const Layer layer(flags, 1, rows, rows);
  // Scores at or below the diagonal, 2 d operations each.
  const double flop = static_cast<double>(kHeads * kWidth) * static_cast<double>(rows * (rows + 1));
  const double limit = flop / best.flop_per_ms;
  const int runs = length > 50000 ? 3 : 11, calls = length < 4096 ? 20 : 1;
  const auto time = [&](const MapStatsRequest& request) {
    return median_ms(
        flags.device, runs, [&] { attention_stats(layer.q, layer.k, layer.rule(), request); },
        calls);
  };
  report.row(what, time({}), limit);
  report.row(what + " 16 segments",
             time({.segments = segments_of(layer), .num_segments = kSegments}), limit);
}

/// Attention itself, alone and with the figures of all rows.
void attention_rows(const Flags& flags, const Ceilings& best, Report& report, int64_t length) {
  const std::string shape = fmt::format("32x8x128 1x{}", length);
  if (!flags.wants("attention " + shape) && !flags.wants("attention_with_stats " + shape)) return;
  const int64_t rows = flags.scaled(length, 64);
  const Layer layer(flags, 1, rows, rows);
  const Tensor v = Layer::random(flags, 1, rows, kKvHeads);
  const double flop =
      2.0 * static_cast<double>(kHeads * kWidth) * static_cast<double>(rows * (rows + 1));
  const double limit = flop / best.flop_per_ms;
  const int runs = length > 50000 ? 3 : 11, calls = length < 4096 ? 20 : 1;
  const auto time = [&](const std::function<void()>& work) {
    return median_ms(flags.device, runs, work, calls);
  };
  const auto both = [&](const MapStatsRequest& request) {
    attention_with_stats(layer.q, layer.k, v, layer.rule(), request);
  };
  report.row("attention " + shape, time([&] { attention(layer.q, layer.k, v, layer.rule()); }),
             limit);
  report.row("attention_with_stats " + shape, time([&] { both({}); }), limit);
  const Tensor ids = segments_of(layer);
  report.row("attention_with_stats " + shape + " 16 segments",
             time([&] { both({.segments = ids, .num_segments = kSegments}); }), limit);
}

/// The last row of each prompt: k is read once.
void last_rows(const Flags& flags, const Ceilings& best, Report& report) {
  const std::string what = "attention_stats 32x8x128 8x32768 last row";
  if (!flags.wants(what)) return;
  const Layer layer(flags, 8, 1, flags.scaled(32768, 64));
  const double limit = static_cast<double>(layer.k.nbytes()) / best.bytes_per_ms;
  report.row(what,
             median_ms(
                 flags.device, 11,
                 [&] { attention_stats(layer.q, layer.k, layer.rule(), {.top_k = 16}); }, 5),
             limit);
}

int run(const Flags& flags) {
  const c10::NoGradGuard no_grad;
  const Ceilings best = Ceilings::measure(flags);
  Report report(flags);
  for (const int64_t length : {2048, 8192, 32768, 131072}) {
    all_rows(flags, best, report, length);
    attention_rows(flags, best, report, length);
  }
  last_rows(flags, best, report);
  return 0;
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  return headlens::bench::run(headlens::bench::Flags::parse(argc, argv));
}
