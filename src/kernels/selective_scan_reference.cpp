// headlens/kernels: the Mamba-1 scan one position after another, to compare with.
#include <ATen/ATen.h>

#include "headlens/kernels/selective_scan.h"
#include "kernels/s6_checks.h"

namespace headlens {
namespace {

// h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t
Tensor next_state(const S6Inputs& in, const Tensor& state, int64_t t) {
  const Tensor dt = in.dt.select(1, t).unsqueeze(-1);  // [batch, channel, 1]
  return (dt * in.A).exp() * state +
         dt * in.x.select(1, t).unsqueeze(-1) * in.B.select(1, t).unsqueeze(1);
}

Tensor first_state(const S6Inputs& in) {
  if (in.state.defined()) return in.state;
  return at::zeros({in.x.size(0), in.x.size(2), in.A.size(1)}, in.x.options());
}

}  // namespace

SelectiveScanResult selective_scan_reference(const Tensor& x, const Tensor& dt, const Tensor& A,
                                             const Tensor& B, const Tensor& C,
                                             const Tensor& state) {
  const S6Inputs in = checked_s6_inputs("selective_scan_reference", x, dt, A, B, C, state);
  Tensor h = first_state(in);
  std::vector<Tensor> y;
  for (int64_t t = 0; t < x.size(1); ++t) {
    h = next_state(in, h, t);
    y.push_back((h * in.C.select(1, t).unsqueeze(1)).sum(-1));
  }
  return {at::stack(y, 1).to(x.scalar_type()), h};
}

Tensor selective_scan_states(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B,
                             const Tensor& state) {
  const S6Inputs in = checked_s6_inputs("selective_scan_states", x, dt, A, B, B, state);
  Tensor h = first_state(in);
  std::vector<Tensor> states;
  for (int64_t t = 0; t < x.size(1); ++t) states.push_back(h = next_state(in, h, t));
  return at::stack(states, 1);
}

}  // namespace headlens
