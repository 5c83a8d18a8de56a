// headlens/tests: the causal convolution with its silu, its gradient, and one position of it.
//
// causal_conv1d_bench [--device cuda] [--json FILE] [--only TEXT] [--scale 1]
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "bench/bench_tools.h"
#include "headlens/kernels/causal_conv1d.h"

namespace headlens::bench {
namespace {

struct Inputs {
  Tensor x, weight, bias, state;

  Inputs(const Flags& flags, int64_t channels, int64_t pos) {
    const auto half = at::TensorOptions(flags.device).dtype(at::kBFloat16);
    x = at::randn({1, pos, channels}, half);
    weight = at::randn({channels, 4}, half), bias = at::randn({channels}, half);
    state = at::randn({1, 3, channels}, half);
  }
  Tensor run() const { return causal_conv1d_silu(x, weight, bias, {}, /*keep_y=*/false).silu; }
};

void bench_length(const Flags& flags, const Ceilings& card, Report& report, int64_t channels,
                  int64_t pos) {
  Inputs in(flags, flags.scaled(channels, 64), flags.scaled(pos, 64));
  const double bytes = 2.0 * static_cast<double>(in.x.numel());
  const std::string what = fmt::format("causal_conv1d {} 1x{} forward", channels, pos);
  if (flags.wants(what)) {
    const c10::NoGradGuard no_grad;
    report.kernel(what, 2 * bytes / card.bytes_per_ms, [&] { in.run(); });
  }
  if (!flags.wants(what + "+backward")) return;
  std::vector<Tensor> leaves;
  for (Tensor* t : {&in.x, &in.weight, &in.bias}) {
    *t = t->detach().requires_grad_();
    leaves.push_back(*t);
  }
  const Tensor dy = at::randn_like(in.x.detach());
  const auto both = [&] { torch::autograd::grad({in.run()}, leaves, {dy}); };
  report.kernel(what + "+backward", 5 * bytes / card.bytes_per_ms, both);
}

void bench_step(const Flags& flags, const Ceilings& card, Report& report, int64_t channels) {
  const std::string what = fmt::format("causal_conv1d {} one position", channels);
  if (!flags.wants(what)) return;
  Inputs in(flags, flags.scaled(channels, 64), 1);
  const auto step = [&] {
    causal_conv1d_silu_step(in.x, in.weight, in.bias, in.state, /*keep_y=*/false);
  };
  // In and out, the taps, the state read and written.
  const double bytes = 2.0 * 13.0 * static_cast<double>(in.x.numel());
  report.row(what, median_ms(flags.device, 20, step, /*calls=*/100), bytes / card.bytes_per_ms);
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  using namespace headlens::bench;
  const Flags flags = Flags::parse(argc, argv);
  const Ceilings card = Ceilings::measure(flags);
  Report report(flags);
  for (const int64_t channels : {8192, 5376}) {
    for (const int64_t pos : {2048, 8192, 32768}) {
      bench_length(flags, card, report, channels, pos);
    }
    bench_step(flags, card, report, channels);
  }
  return 0;
}
