// headlens/model: the feed-forward half of a block.
#include "headlens/model/mlp.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "headlens/kernels/activation.h"
#include "model/scaled.h"

namespace headlens {

Mlp::Mlp(const MlpSpec& spec, int64_t d_model, const TensorNames& names, const WeightScope& weights,
         int64_t use)
    : spec_(spec),
      down_proj_(weights.scope(names.mlp.down), spec.d_mlp, d_model, spec.bias, names.transposed) {
  const auto read = [&](const std::string& name, int64_t width) {
    return Linear(weights.scope(name), d_model, width, spec.bias, names.transposed);
  };
  if (spec.fused) {
    gate_proj_ = read(names.mlp.gate_up, 2 * spec.d_mlp);
  } else {
    if (spec.gated && !names.transposed) {
      joined_ = Linear::joined(weights, {names.mlp.gate, names.mlp.up}, d_model,
                               {spec.d_mlp, spec.d_mlp}, spec.bias);
    }
    if (spec.gated) gate_proj_ = read(names.mlp.gate, spec.d_mlp);
    up_proj_ = read(names.mlp.up, spec.d_mlp);
  }
  if (spec.adapter_rank == 0) return;
  const std::string list = fmt::format("gate_up_proj_adapter_list.{}", use);
  adapter_ = Adapter(weights.scope(list), d_model, spec.adapter_rank, 2 * spec.d_mlp);
}

Tensor Mlp::forward(const Tensor& x, const LayerTap& tap) const {
  const Tensor post =
      spec_.gated ? gated(x, tap) : activate(tap(Site::MlpPre, up_proj_(x)), spec_.activation);
  return scaled(down_proj_(tap(Site::MlpPost, post)), spec_.out_scale);
}

/// act(gate x) * up x: [batch, pos, d_mlp]
Tensor Mlp::gated(const Tensor& x, const LayerTap& tap) const {
  Tensor gate, up;
  if (spec_.fused || joined_.defined()) {
    const Tensor both = joined_.defined() ? joined_(x) : gate_proj_(x);
    const auto halves = adapter_.add(both, x).chunk(2, -1);
    gate = halves[0], up = halves[1];
  } else {
    gate = gate_proj_(x), up = up_proj_(x);
  }
  gate = tap(Site::MlpPre, scaled(gate, spec_.gate_scale));
  return gated_activation(gate, tap(Site::MlpPreLinear, up), spec_.activation);
}

Mlp::Part Mlp::gate() const {
  if (!spec_.fused) return {gate_proj_.weight(), gate_proj_.bias()};
  const Tensor& bias = gate_proj_.bias();
  return {gate_proj_.weight().narrow(0, 0, spec_.d_mlp),
          bias.defined() ? bias.narrow(0, 0, spec_.d_mlp) : bias};
}

Mlp::Part Mlp::up() const {
  if (!spec_.fused) return {up_proj_.weight(), up_proj_.bias()};
  const Tensor& bias = gate_proj_.bias();
  return {gate_proj_.weight().narrow(0, spec_.d_mlp, spec_.d_mlp),
          bias.defined() ? bias.narrow(0, spec_.d_mlp, spec_.d_mlp) : bias};
}

std::vector<Tensor> Mlp::weights() const {
  std::vector<Tensor> all = {gate_proj_.weight(), gate_proj_.bias(),   up_proj_.weight(),
                             up_proj_.bias(),     down_proj_.weight(), down_proj_.bias()};
  const auto more = adapter_.weights();
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace headlens
