// headlens/model: what all layers of a forward share besides the residual.
#include "headlens/model/prompt.h"

#include <ATen/ATen.h>

namespace headlens {

Prompt Prompt::on(at::Device device) const {
  Prompt there = *this;
  if (embedding.defined()) there.embedding = embedding.to(device);
  if (first.defined()) there.first = first.to(device);
  if (step.defined()) there.step = step.to(device);
  return there;
}

Tensor Prompt::real(int64_t pos) const {
  if (!first.defined() || step.defined()) return {};  // what is decoded is no padding
  const Tensor position = at::arange(start, start + pos, first.options());
  return (position >= first.unsqueeze(1)).unsqueeze(-1).unsqueeze(-1);
}

Tensor Prompt::places(int64_t pos, at::Device device) const {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  Tensor position = step.defined() ? step.to(device).unsqueeze(0)
                                   : at::arange(start, start + pos, options).unsqueeze(0);
  if (!first.defined()) return position;
  return (position - first.to(device).unsqueeze(1)).clamp_min(0);
}

Tensor hide_padding(const Tensor& x, const Tensor& real) {
  if (!real.defined()) return x;
  const Tensor mask = x.dim() == 3 ? real.squeeze(-1) : real;
  return x.masked_fill(mask.logical_not(), 0);
}

}  // namespace headlens
