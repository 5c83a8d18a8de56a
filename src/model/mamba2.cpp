// headlens/model: one Mamba-2 (SSD) mixer.
#include "headlens/model/mamba2.h"

#include <ATen/ATen.h>

#include "headlens/kernels/norm.h"
#include "model/mix.h"
#include "model/promote.h"
#include "model/scaled.h"

namespace headlens {
namespace {

int64_t conv_channels(const Mamba2Spec& spec) {
  return spec.d_inner() + 2 * spec.groups * spec.d_state;
}

}  // namespace

Mamba2::Mamba2(const Mamba2Spec& spec, int64_t d_model, const WeightScope& weights)
    : spec_(spec),
      in_proj_(weights.scope("in_proj"), d_model, spec.d_inner() + conv_channels(spec) + spec.heads,
               spec.proj_bias),
      conv_weight_(weights.get("conv1d.weight", {conv_channels(spec), 1, spec.d_conv})),
      out_proj_(weights.scope("out_proj"), spec.d_inner(), d_model, spec.out_bias) {
  if (spec.gated_norm != GatedNorm::GateOnly) {
    norm_weight_ = weights.get("norm.weight", {spec.d_inner()});
  }
  const WeightScope precise = weights.with_dtype(at_least_float32(weights.dtype()));
  dt_bias_ = precise.get("dt_bias", {spec.heads});
  A_log_ = precise.get("A_log", {spec.heads});
  D_ = precise.get("D", {spec.heads});
  if (spec.conv_bias) conv_bias_ = weights.get("conv1d.bias", {conv_channels(spec)});
}

Tensor Mamba2::forward(const Tensor& u, const LayerTap& tap, LayerState* state,
                       const Prompt& prompt) const {
  const auto& [heads, d_head, d_state, groups] =
      std::tie(spec_.heads, spec_.d_head, spec_.d_state, spec_.groups);
  const Tensor projected = tap(Site::InProj, scale_parts(in_proj_(scaled(u, spec_.in_scale))));
  const auto parts = projected.split_with_sizes({spec_.d_inner(), conv_channels(spec_), heads}, -1);
  const Tensor real = prompt.real(u.size(1));
  const Tensor gate = tap(Site::Gate, parts[0]);
  const Tensor xBC = convolve_silu(parts[1], conv_weight_, conv_bias_, tap, state, real);
  const auto scanned =
      xBC.split_with_sizes({spec_.d_inner(), groups * d_state, groups * d_state}, -1);

  const Tensor x = tap(Site::SsmInput, scanned[0].unflatten(-1, {heads, d_head}));
  const Tensor dt = tap(Site::Dt, step_size(tap(Site::DtPre, parts[2])));
  const Tensor B = tap(Site::B, scanned[1].unflatten(-1, {groups, d_state}));
  const Tensor C = tap(Site::C, scanned[2].unflatten(-1, {groups, d_state}));
  const Tensor A = tap(Site::A, -at::exp(A_log_));
  const Tensor y = mix_ssd(LayerKind::Mamba2, {x, A * dt, dt, B, C, spec_.chunk}, tap, state);

  const Tensor out = tap(Site::SsmOut, y + D_.unsqueeze(-1) * x);
  const Tensor normed = gated_rms_norm(out.flatten(2), gate, norm_weight_, spec_.norm_eps,
                                       spec_.norm_groups, spec_.gated_norm);
  const Tensor z = tap(Site::MixerZ, normed.unflatten(-1, {heads, d_head}));
  return tap(Site::MixerOut, project(z.flatten(2)));
}

Tensor Mamba2::project(const Tensor& z) const {
  return scaled(out_proj_(z), spec_.out_scale);
}

/// in_proj's output [batch, pos, gate + x + B + C + dt], each part with its own multiplier
Tensor Mamba2::scale_parts(const Tensor& projected) const {
  if (spec_.part_scales.empty()) return projected;
  const int64_t d_inner = spec_.d_inner(), d_state = spec_.groups * spec_.d_state;
  auto parts = projected.split_with_sizes({d_inner, d_inner, d_state, d_state, spec_.heads}, -1);
  for (size_t i = 0; i < parts.size(); ++i) parts[i] = scaled(parts[i], spec_.part_scales.at(i));
  return at::cat(parts, -1);
}

/// softplus(dt + bias) within [dt_min, dt_max]: [batch, pos, head], at least float32
Tensor Mamba2::step_size(const Tensor& dt_pre) const {
  const Tensor dt = at::softplus(at_least_float32(dt_pre) + dt_bias_);
  return spec_.dt_max > 0 ? dt.clamp(spec_.dt_min, spec_.dt_max) : dt.clamp_min(spec_.dt_min);
}

std::vector<Tensor> Mamba2::weights() const {
  return {in_proj_.weight(), in_proj_.bias(),    conv_weight_,    conv_bias_, dt_bias_, A_log_, D_,
          norm_weight_,      out_proj_.weight(), out_proj_.bias()};
}

}  // namespace headlens
