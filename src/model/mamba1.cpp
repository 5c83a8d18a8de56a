// headlens/model: one Mamba-1 (S6) mixer.
#include "headlens/model/mamba1.h"

#include <ATen/ATen.h>

#include "headlens/kernels/selective_scan.h"
#include "headlens/model/norm.h"
#include "model/mix.h"
#include "model/promote.h"

namespace headlens {
namespace {

/// Does somebody look at what the fused scan keeps to itself?
bool sees_scan(const LayerTap& tap) {
  for (const Site site : {Site::Dt, Site::A, Site::ABar, Site::BBar, Site::StateStart, Site::State,
                          Site::Map, Site::Y, Site::SsmOut}) {
    if (tap.wants(site)) return true;
  }
  return tap.wants_map(Site::Map);
}

}  // namespace

Mamba1::Mamba1(const Mamba1Spec& spec, int64_t d_model, const WeightScope& weights)
    : spec_(spec),
      in_proj_(weights.scope("in_proj"), d_model, 2 * spec.d_inner, spec.proj_bias),
      conv_weight_(weights.get("conv1d.weight", {spec.d_inner, 1, spec.d_conv})),
      x_proj_(weights.scope("x_proj"), spec.d_inner, spec.dt_rank + 2 * spec.d_state, false),
      dt_weight_(weights.get("dt_proj.weight", {spec.d_inner, spec.dt_rank})),
      out_proj_(weights.scope("out_proj"), spec.d_inner, d_model, spec.proj_bias) {
  const WeightScope precise = weights.with_dtype(at_least_float32(weights.dtype()));
  dt_bias_ = precise.get("dt_proj.bias", {spec.d_inner});
  A_log_ = precise.get("A_log", {spec.d_inner, spec.d_state});
  D_ = precise.get("D", {spec.d_inner});
  if (spec.conv_bias) conv_bias_ = weights.get("conv1d.bias", {spec.d_inner});
  if (!spec.bcdt_norm_weights) return;
  const auto read_norm = [&](const char* name, int64_t width) {
    return Norm(weights.scope(name), width, NormKind::Rms, spec.bcdt_rms_eps.value_or(1e-6));
  };
  bcdt_norms_ = {read_norm("dt_layernorm", spec.dt_rank), read_norm("b_layernorm", spec.d_state),
                 read_norm("c_layernorm", spec.d_state)};
}

Tensor Mamba1::forward(const Tensor& u, const LayerTap& tap, LayerState* state,
                       const Prompt& prompt) const {
  const Tensor projected = tap(Site::InProj, in_proj_(u));
  const auto halves = projected.chunk(2, -1);  // x, gate
  const Tensor gate = tap(Site::Gate, halves[1]);
  const Tensor real = prompt.real(u.size(1));
  const Tensor x =
      tap(Site::SsmInput, convolve_silu(halves[0], conv_weight_, conv_bias_, tap, state, real));
  const bool fused = x.is_cuda() && !sees_scan(tap);
  const Selection selection = select(x, fused, tap);
  const Tensor gated =
      fused ? fused_scan(x, gate, selection, state) : scan(x, gate, selection, tap, state);
  const Tensor z = tap(Site::MixerZ, gated.to(u.scalar_type()));
  return tap(Site::MixerOut, project(z));
}

Tensor Mamba1::project(const Tensor& z) const {
  return out_proj_(z);
}

Mamba1::Selection Mamba1::select(const Tensor& x, bool fused, const LayerTap& tap) const {
  auto parts = x_proj_(x).split_with_sizes({spec_.dt_rank, spec_.d_state, spec_.d_state}, -1);
  if (spec_.bcdt_rms_eps) {
    for (size_t i = 0; i < 3; ++i) {
      parts[i] = spec_.bcdt_norm_weights ? bcdt_norms_[i](parts[i])
                                         : weightless_rms_norm(parts[i], *spec_.bcdt_rms_eps);
    }
  }
  const Tensor low_rank = tap(Site::DtLowRank, parts[0]);
  const Tensor dt_pre = tap(Site::DtPre, at::linear(low_rank, dt_weight_));
  const Tensor dt =
      fused ? dt_pre : tap(Site::Dt, at::softplus(at_least_float32(dt_pre) + dt_bias_));
  return {dt, tap(Site::B, parts[1]), tap(Site::C, parts[2])};
}

/// The scan between dt's softplus and the gate in one pass.
Tensor Mamba1::fused_scan(const Tensor& x, const Tensor& gate, const Selection& selection,
                          LayerState* state) const {
  const ScanSurroundings around{.dt_bias = dt_bias_, .softplus = true, .D = D_, .z = gate};
  const FusedScanResult result =
      selective_scan_fused(x, selection.dt, -at::exp(A_log_), selection.B, selection.C,
                           state != nullptr ? state->ssm : Tensor(), around);
  if (state != nullptr) state->ssm = result.state;
  return result.gated;
}

/// The same step by step, for who looks at a step.
Tensor Mamba1::scan(const Tensor& x, const Tensor& gate, const Selection& selection,
                    const LayerTap& tap, LayerState* state) const {
  const auto& [dt, B, C] = selection;
  const Tensor A = tap(Site::A, -at::exp(A_log_));
  const Tensor dt_of_state = dt.unsqueeze(-1);  // [batch, pos, channel, 1]
  tap.show(Site::ABar, [&] { return at::exp(dt_of_state * A); });
  tap.show(Site::BBar, [&, &B = B] { return dt_of_state * B.unsqueeze(2); });
  const Tensor y = mix_s6({x, dt, A, B, C}, tap, state);
  return tap(Site::SsmOut, y + D_ * x) * at::silu(gate);
}

std::vector<Tensor> Mamba1::weights() const {
  return {in_proj_.weight(),
          in_proj_.bias(),
          conv_weight_,
          conv_bias_,
          x_proj_.weight(),
          dt_weight_,
          dt_bias_,
          A_log_,
          D_,
          bcdt_norms_[0].weight(),
          bcdt_norms_[1].weight(),
          bcdt_norms_[2].weight(),
          out_proj_.weight(),
          out_proj_.bias()};
}

}  // namespace headlens
