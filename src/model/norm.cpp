// headlens/model: the norms of layers and of the residual stream.
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

Norm::Norm(Tensor weight, double eps) : weight_(std::move(weight)), eps_(eps) {}

Norm::Norm(const WeightScope& weights, int64_t width, NormKind kind, double eps)
    : kind_(kind), weight_(weights.get("weight", {width})), eps_(eps) {
  if (kind == NormKind::Layer) bias_ = weights.get("bias", {width});
}

Tensor Norm::forward(const Tensor& x, const LayerTap& tap, Site scale, Site normalized) const {
  if (kind_ != NormKind::Layer && !tap.wants(scale) && !tap.wants(normalized)) {
    return rms_norm(x, weight_, eps_, kind_ == NormKind::RmsPlusOne);
  }
  Tensor precise = at_least_float32(x);
  if (kind_ == NormKind::Layer) precise = precise - precise.mean(-1, /*keepdim=*/true);
  const Tensor divisor = tap(scale, root_mean_square(precise, eps_));
  return tap(normalized, finish(precise / divisor));
}

Tensor Norm::operator()(const Tensor& x) const {
  return forward(x, LayerTap(nullptr, 0), Site::Ln1Scale, Site::Ln1Normalized);
}

AddedNorm Norm::add(const Tensor& resid, const Tensor& y, const LayerTap& tap, Site scale,
                    Site normalized) const {
  if (kind_ != NormKind::Layer && !tap.wants(scale) && !tap.wants(normalized)) {
    return add_rms_norm(resid, y, weight_, eps_, kind_ == NormKind::RmsPlusOne);
  }
  const Tensor sum = resid + y;
  return {sum, forward(sum, tap, scale, normalized)};
}

Tensor Norm::finish(const Tensor& normalized) const {
  const auto dtype = weight_.scalar_type();
  if (kind_ == NormKind::RmsPlusOne) {
    return (normalized * (1 + at_least_float32(weight_))).to(dtype);
  }
  if (kind_ == NormKind::Rms) return weight_ * normalized.to(dtype);
  return (normalized * at_least_float32(weight_) + at_least_float32(bias_)).to(dtype);
}

Tensor weightless_rms_norm(const Tensor& x, double eps) {
  const Tensor precise = at_least_float32(x);
  return (precise / root_mean_square(precise, eps)).to(x.scalar_type());
}

}  // namespace headlens
