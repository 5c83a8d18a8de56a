// headlens/tests: the Mamba-1 scan with its gate and skip, its gradient, and one position of it.
//
// selective_scan_bench [--device cuda] [--json FILE] [--only TEXT] [--scale 1]
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "bench/bench_tools.h"
#include "headlens/kernels/selective_scan.h"

namespace headlens::bench {
namespace {

constexpr int64_t kStates = 16;

struct Inputs {
  Tensor x, dt, A, B, C, D, z, state;

  Inputs(const Flags& flags, int64_t channels, int64_t pos) {
    const auto half = at::TensorOptions(flags.device).dtype(at::kBFloat16);
    const auto single = half.dtype(at::kFloat);
    x = at::randn({1, pos, channels}, half), z = at::randn({1, pos, channels}, half);
    dt = at::randn({1, pos, channels}, half).abs() * 0.1;
    A = -at::rand({channels, kStates}, single) * 16 - 0.5;
    const Tensor both = at::randn({1, pos, 2 * kStates}, half);
    B = both.narrow(2, 0, kStates), C = both.narrow(2, kStates, kStates);
    D = at::randn({channels}, single);
    state = at::randn({1, channels, kStates}, single);
  }

  Tensor scan() const { return selective_scan_fused(x, dt, A, B, C, {}, {.D = D, .z = z}).gated; }
};

/// The larger of what is moved and, on a card of 132 multiprocessors at 1.98 GHz, of 16
/// exponentials a clock each.
double limit_ms(const Ceilings& card, const Tensor& x, int64_t moved_a_channel, int64_t rounds) {
  const auto entries = static_cast<double>(x.numel());
  const double moved = 2.0 * entries * static_cast<double>(moved_a_channel) / card.bytes_per_ms;
  const double exponentials = entries * kStates * static_cast<double>(rounds) / 4.18e9;
  return std::max(moved, exponentials);
}

void bench_length(const Flags& flags, const Ceilings& card, Report& report, int64_t channels,
                  int64_t pos) {
  Inputs in(flags, flags.scaled(channels, 64), flags.scaled(pos, 64));
  const std::string what = fmt::format("selective_scan {}x{} 1x{} forward", channels, kStates, pos);
  if (flags.wants(what)) {
    const c10::NoGradGuard no_grad;
    report.kernel(what, limit_ms(card, in.x, /*moved_a_channel=*/4, /*rounds=*/1),
                  [&] { in.scan(); });
  }
  if (!flags.wants(what + "+backward")) return;
  std::vector<Tensor> leaves;
  for (Tensor* t : {&in.x, &in.dt, &in.A, &in.B, &in.C, &in.D, &in.z}) {
    *t = t->detach().requires_grad_();
    leaves.push_back(*t);
  }
  const Tensor dy = at::randn_like(in.x.detach());
  const auto both = [&] { torch::autograd::grad({in.scan()}, leaves, {dy}); };
  // The backward reads x, dt, z and dy and writes three gradients.
  report.kernel(what + "+backward", limit_ms(card, in.x, 11, 2), both);
}

void bench_step(const Flags& flags, const Ceilings& card, Report& report, int64_t channels) {
  const std::string what = fmt::format("selective_scan {}x{} one position", channels, kStates);
  if (!flags.wants(what)) return;
  Inputs in(flags, flags.scaled(channels, 64), 1);
  const auto step = [&] {
    selective_scan_step(in.x, in.dt, in.A, in.B, in.C, in.state, {.D = in.D, .z = in.z});
  };
  // A is read, the state read and written.
  const double bytes = 3.0 * 4.0 * static_cast<double>(in.A.numel());
  report.row(what, median_ms(flags.device, 20, step, /*calls=*/100), bytes / card.bytes_per_ms);
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  using namespace headlens::bench;
  const Flags flags = Flags::parse(argc, argv);
  const Ceilings card = Ceilings::measure(flags);
  Report report(flags);
  for (const int64_t channels : {8192, 1536}) {
    for (const int64_t pos : {2048, 8192}) bench_length(flags, card, report, channels, pos);
    bench_step(flags, card, report, channels);
  }
  return 0;
}
