// headlens/model: the feed-forward half of a block.
#include "headlens/model/mlp.h"

#include <ATen/ATen.h>

namespace headlens {

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::Silu:
      return at::silu(x);
    case Activation::Gelu:
      return at::gelu(x);
    case Activation::GeluTanh:
      return at::gelu(x, "tanh");
    case Activation::Relu2:
      return at::relu(x).square();
  }
  return x;
}

Mlp::Mlp(const MlpSpec& spec, int64_t d_model, const WeightScope& weights)
    : spec_(spec),
      up_proj_(weights.scope("up_proj"), d_model, spec.d_mlp, spec.bias),
      down_proj_(weights.scope("down_proj"), spec.d_mlp, d_model, spec.bias) {
  if (spec.gated) {
    gate_proj_ = Linear(weights.scope("gate_proj"), d_model, spec.d_mlp, spec.bias);
  }
}

Tensor Mlp::forward(const Tensor& x, const LayerTap& tap) const {
  const Linear& pre_proj = spec_.gated ? gate_proj_ : up_proj_;
  Tensor post = activate(tap(Site::MlpPre, pre_proj(x)), spec_.activation);
  if (spec_.gated) post = post * tap(Site::MlpPreLinear, up_proj_(x));
  return tap(Site::MlpOut, down_proj_(tap(Site::MlpPost, post)));
}

std::vector<Tensor> Mlp::weights() const {
  return {gate_proj_.weight(), gate_proj_.bias(),   up_proj_.weight(),
          up_proj_.bias(),     down_proj_.weight(), down_proj_.bias()};
}

}  // namespace headlens
