// headlens/kernels: the Mamba-2 scan one position after another, to compare with.
#include <ATen/ATen.h>

#include "headlens/kernels/ssd_scan.h"
#include "kernels/ssd_checks.h"

namespace headlens {
namespace {

// [batch, group, d_state] -> [batch, head, 1, d_state]
Tensor per_head(const Tensor& grouped, int64_t heads) {
  return grouped.repeat_interleave(heads / grouped.size(1), 1).unsqueeze(2);
}

// h_t = exp(log_decay_t) h_{t-1} + dt_t x_t B_t^T
Tensor next_state(const SsdInputs& in, const Tensor& state, int64_t t) {
  Tensor x = in.x.select(1, t);  // [batch, head, d_head]
  if (in.dt.defined()) x = x * in.dt.select(1, t).unsqueeze(-1);
  const Tensor decay = in.log_decay.select(1, t).exp().unsqueeze(-1).unsqueeze(-1);
  return decay * state + x.unsqueeze(-1) * per_head(in.B.select(1, t), in.x.size(2));
}

Tensor first_state(const SsdInputs& in) {
  if (in.state.defined()) return in.state;
  return at::zeros({in.x.size(0), in.x.size(2), in.x.size(3), in.B.size(3)}, in.x.options());
}

}  // namespace

SsdResult ssd_scan_reference(const Tensor& x, const Tensor& log_decay, const Tensor& dt,
                             const Tensor& B, const Tensor& C, const Tensor& state) {
  const SsdInputs in = checked_ssd_inputs("ssd_scan_reference", x, log_decay, dt, B, C, state);
  Tensor h = first_state(in);
  std::vector<Tensor> y;
  for (int64_t t = 0; t < x.size(1); ++t) {
    h = next_state(in, h, t);
    y.push_back((h * per_head(in.C.select(1, t), x.size(2))).sum(-1));
  }
  return {at::stack(y, 1).to(x.scalar_type()), h};
}

Tensor ssd_states(const Tensor& x, const Tensor& log_decay, const Tensor& dt, const Tensor& B,
                  const Tensor& state) {
  const SsdInputs in = checked_ssd_inputs("ssd_states", x, log_decay, dt, B, B, state);
  Tensor h = first_state(in);
  std::vector<Tensor> states;
  for (int64_t t = 0; t < x.size(1); ++t) states.push_back(h = next_state(in, h, t));
  return at::stack(states, 1);
}

}  // namespace headlens
