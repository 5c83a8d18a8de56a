// headlens/tests: the Mamba-2 scan of 16-bit inputs, its gradient, and one position of it.
//
// ssd_bench [--device cuda] [--json FILE] [--only TEXT] [--scale 1]
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "bench/bench_tools.h"
#include "headlens/kernels/ssd_scan.h"

namespace headlens::bench {
namespace {

struct Shape {
  const char* name;
  int64_t heads, d_head, d_state, groups;
};

constexpr Shape kShapes[] = {{"80x64 state 128", 80, 64, 128, 1},    // Mamba2-2.7B
                             {"32x128 state 64", 32, 128, 64, 32}};  // Llamba-8B

struct Inputs {
  Tensor x, log_decay, dt, B, C, state;

  Inputs(const Flags& flags, const Shape& s, int64_t pos) {
    const auto half = at::TensorOptions(flags.device).dtype(at::kBFloat16);
    const int64_t inner = s.heads * s.d_head, shared = s.groups * s.d_state;
    const Tensor whole = at::randn({1, pos, inner + 2 * shared}, half);
    x = whole.narrow(-1, 0, inner).unflatten(-1, {s.heads, s.d_head});
    B = whole.narrow(-1, inner, shared).unflatten(-1, {s.groups, s.d_state});
    C = whole.narrow(-1, inner + shared, shared).unflatten(-1, {s.groups, s.d_state});
    dt = at::rand({1, pos, s.heads}, half.dtype(at::kFloat));
    log_decay = -dt * (at::rand({s.heads}, half.dtype(at::kFloat)) + 0.1);
    state = at::randn({1, s.heads, s.d_head, s.d_state}, half.dtype(at::kFloat));
  }

  SsdResult scan(const Tensor& before) const {
    return ssd_scan(x, log_decay, dt, B, C, before, /*chunk=*/256);
  }
  /// x, B, C and y once each, and the float32 decays.
  double bytes() const {
    return static_cast<double>(2 * (2 * x.numel() + 2 * B.numel()) + 8 * dt.numel());
  }
  double state_bytes() const { return 2.0 * 4.0 * static_cast<double>(state.numel()); }
};

void bench_length(const Flags& flags, const Ceilings& card, Report& report, const Shape& shape,
                  int64_t pos) {
  Inputs in(flags, shape, flags.scaled(pos, 64));
  const std::string what = fmt::format("ssd_scan {} 1x{} forward", shape.name, pos);
  const double limit = in.bytes() / card.bytes_per_ms;
  if (flags.wants(what)) {
    const c10::NoGradGuard no_grad;
    report.kernel(what, limit, [&] { in.scan({}); });
  }
  if (!flags.wants(what + "+backward")) return;
  std::vector<Tensor> leaves;
  for (Tensor* t : {&in.x, &in.log_decay, &in.dt, &in.B, &in.C}) {
    *t = t->detach().requires_grad_();
    leaves.push_back(*t);
  }
  const Tensor dy = at::randn_like(in.x.detach());
  const auto both = [&] { torch::autograd::grad({in.scan({}).y}, leaves, {dy}); };
  // The forward, then x, dy, B, C and the decays read, their gradients written.
  report.kernel(what + "+backward", 2.5 * limit, both);
}

void bench_step(const Flags& flags, const Ceilings& card, Report& report, const Shape& shape) {
  const std::string what = fmt::format("ssd_scan {} one position", shape.name);
  if (!flags.wants(what)) return;
  const c10::NoGradGuard no_grad;
  const Inputs in(flags, shape, 1);
  report.row(what,
             median_ms(
                 flags.device, 20, [&] { in.scan(in.state); }, /*calls=*/100),
             (in.bytes() + in.state_bytes()) / card.bytes_per_ms);
}

}  // namespace
}  // namespace headlens::bench

int main(int argc, char** argv) {
  using namespace headlens::bench;
  const Flags flags = Flags::parse(argc, argv);
  const Ceilings card = Ceilings::measure(flags);
  Report report(flags);
  for (const Shape& shape : kShapes) {
    for (const int64_t pos : {2048, 8192, 32768}) bench_length(flags, card, report, shape, pos);
    bench_step(flags, card, report, shape);
  }
  return 0;
}
