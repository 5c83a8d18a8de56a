// headlens/bench: the scans, and rows of their maps, against the readable references.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <c10/core/GradMode.h>

#include "headlens/core/dtype.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_scan.h"

namespace headlens {
namespace {

struct Ssd {
  explicit Ssd(const benchmark::State& state)
      : x(at::randn({8, state.range(0), 8, 32})),
        dt(at::rand({8, state.range(0), 8})),
        log_decay(-dt),
        B(at::randn({8, state.range(0), 1, 32})),
        C(at::randn({8, state.range(0), 1, 32})) {}
  Tensor x, dt, log_decay, B, C;
};

struct S6 {
  explicit S6(const benchmark::State& state)
      : x(at::randn({8, state.range(0), 256})),
        dt(at::rand({8, state.range(0), 256}) * 0.2),
        A(-(at::rand({256, 16}) * 16 + 0.5)),
        B(at::randn({8, state.range(0), 16})),
        C(at::randn({8, state.range(0), 16})) {}
  Tensor x, dt, A, B, C;
};

/// The last row of every prompt: what the map figures ask for.
Tensor last_row(const benchmark::State& state) {
  return at::full({8, 1}, state.range(0) - 1, at::kLong);
}

void ssd_fast(benchmark::State& state) {
  const Ssd c(state);
  for (auto _ : state) ssd_scan(c.x, c.log_decay, c.dt, c.B, c.C, {}, 64);
}
void ssd_readable(benchmark::State& state) {
  const Ssd c(state);
  for (auto _ : state) ssd_scan_reference(c.x, c.log_decay, c.dt, c.B, c.C, {});
}
void ssd_one_row(benchmark::State& state) {
  const Ssd c(state);
  const Tensor rows = last_row(state);
  for (auto _ : state) ssd_map_rows(c.log_decay, c.dt, c.B, c.C, rows, {});
}
void s6_fast(benchmark::State& state) {
  const S6 c(state);
  for (auto _ : state) selective_scan(c.x, c.dt, c.A, c.B, c.C, {});
}
void s6_readable(benchmark::State& state) {
  const S6 c(state);
  for (auto _ : state) selective_scan_reference(c.x, c.dt, c.A, c.B, c.C, {});
}
void s6_one_row(benchmark::State& state) {
  const S6 c(state);
  const Tensor rows = last_row(state);
  for (auto _ : state) selective_scan_map_rows(c.dt, c.A, c.B, c.C, rows, {});
}

constexpr auto kMs = benchmark::kMillisecond;
BENCHMARK(ssd_fast)->Arg(128)->Arg(512)->Unit(kMs)->UseRealTime();
BENCHMARK(ssd_readable)->Arg(128)->Arg(512)->Unit(kMs)->UseRealTime();
BENCHMARK(ssd_one_row)->Arg(128)->Arg(512)->Unit(kMs)->UseRealTime();
BENCHMARK(s6_fast)->Arg(128)->Arg(512)->Unit(kMs)->UseRealTime();
BENCHMARK(s6_readable)->Arg(128)->Arg(512)->Unit(kMs)->UseRealTime();
BENCHMARK(s6_one_row)->Arg(128)->Arg(512)->Unit(kMs)->UseRealTime();

}  // namespace
}  // namespace headlens

int main(int argc, char** argv) {
  const c10::NoGradGuard no_grad;
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
