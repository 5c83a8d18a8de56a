// headlens/model: one DiscreteMamba2 mixer.
#include "headlens/model/discrete_mamba2.h"

#include <ATen/ATen.h>

#include "model/mix.h"
#include "model/promote.h"

namespace headlens {
namespace {

int64_t conv_channels(const DiscreteMamba2Spec& spec) {
  return spec.d_inner() + 2 * spec.qk_heads * spec.d_state;
}

}  // namespace

DiscreteMamba2::DiscreteMamba2(const DiscreteMamba2Spec& spec, int64_t d_model,
                               const WeightScope& weights)
    : spec_(spec),
      in_proj_(weights.scope("in_proj"), d_model,
               conv_channels(spec) + spec.d_inner() + spec.v_heads, spec.proj_bias),
      conv_weight_(weights.get("conv1d.weight", {conv_channels(spec), 1, spec.d_conv})),
      out_proj_(weights.scope("out_proj"), spec.d_inner(), d_model, spec.proj_bias) {
  D_ = weights.with_dtype(at_least_float32(weights.dtype())).get("D", {spec.v_heads});
  if (!spec.proj_bias) z_bias_ = weights.get("z_bias", {spec.d_inner()});
  if (spec.conv_bias) conv_bias_ = weights.get("conv1d.bias", {conv_channels(spec)});
}

Tensor DiscreteMamba2::forward(const Tensor& u, const LayerTap& tap, LayerState* state,
                               const Prompt& prompt) const {
  const auto& [heads, d_head, d_state, groups] =
      std::tie(spec_.v_heads, spec_.d_head, spec_.d_state, spec_.qk_heads);
  const Tensor projected = tap(Site::InProj, in_proj_(u));
  const auto parts = projected.split_with_sizes({conv_channels(spec_), spec_.d_inner(), heads}, -1);
  const Tensor gate = tap(Site::Gate, z_bias_.defined() ? parts[1] + z_bias_ : parts[1]);
  const Tensor real = prompt.real(u.size(1));
  const auto convolved = spec_.conv_silu ? convolve_silu : convolve;
  const Tensor xBC =
      hide_padding(convolved(parts[0], conv_weight_, conv_bias_, tap, state, real), real);
  const auto scanned =
      xBC.split_with_sizes({spec_.d_inner(), groups * d_state, groups * d_state}, -1);

  const Tensor x = tap(Site::SsmInput, scanned[0].unflatten(-1, {heads, d_head}));
  const Tensor B = tap(Site::B, scanned[1].unflatten(-1, {groups, d_state}));
  const Tensor C = tap(Site::C, scanned[2].unflatten(-1, {groups, d_state}));
  // Each token brings its own decay; there is no dt (arXiv 2502.14458, section 3).
  const Tensor log_decay = tap(Site::A, -at::softplus(at_least_float32(parts[2])));
  const SsdLayerInputs inputs = {x, log_decay, /*dt=*/{}, B, C, spec_.chunk};
  const Tensor y = mix_ssd(LayerKind::DiscreteMamba2, inputs, tap, state);

  const Tensor out = tap(Site::SsmOut, y + D_.unsqueeze(-1) * x);
  const Tensor gated = out * at::silu(gate).unflatten(-1, {heads, d_head});
  const Tensor z = tap(Site::MixerZ, gated.to(u.scalar_type()));
  return tap(Site::MixerOut, project(z.flatten(2)));
}

Tensor DiscreteMamba2::project(const Tensor& z) const {
  return out_proj_(z);
}

std::vector<Tensor> DiscreteMamba2::weights() const {
  return {in_proj_.weight(),  in_proj_.bias(), z_bias_, conv_weight_, conv_bias_, D_,
          out_proj_.weight(), out_proj_.bias()};
}

}  // namespace headlens
