// headlens/model: root-mean-square normalisation.
#include "headlens/model/norm.h"

#include <ATen/ATen.h>

#include "model/promote.h"

namespace headlens {
namespace {

/// sqrt(mean(x^2) + eps) over the last dimension: [.., width] -> [.., 1]
Tensor root_mean_square(const Tensor& x, double eps) {
  return (x.square().mean(-1, /*keepdim=*/true) + eps).sqrt();
}

}  // namespace

RmsNorm::RmsNorm(Tensor weight, double eps) : weight_(std::move(weight)), eps_(eps) {}

RmsNorm::RmsNorm(const WeightScope& weights, int64_t width, double eps)
    : RmsNorm(weights.get("weight", {width}), eps) {}

Tensor RmsNorm::forward(const Tensor& x, const LayerTap& tap, Site scale, Site normalized) const {
  const Tensor precise = at_least_float32(x);
  const Tensor rms = tap(scale, root_mean_square(precise, eps_));
  return tap(normalized, weight_ * (precise / rms).to(weight_.scalar_type()));
}

Tensor weightless_rms_norm(const Tensor& x, double eps) {
  const Tensor precise = at_least_float32(x);
  return (precise / root_mean_square(precise, eps)).to(x.scalar_type());
}

Tensor gated_rms_norm(const Tensor& x, const Tensor& gate, const Tensor& weight, double eps,
                      int64_t groups) {
  const Tensor gated = at_least_float32(x) * at::silu(at_least_float32(gate));
  const Tensor grouped = gated.unflatten(-1, {groups, gated.size(-1) / groups});
  return weight * (grouped / root_mean_square(grouped, eps)).flatten(-2);
}

}  // namespace headlens
