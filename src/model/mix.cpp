// headlens/model: the one place that chooses between a fused mixer and its map.
#include "model/mix.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "headlens/kernels/attention.h"
#include "headlens/kernels/causal_conv1d.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_scan.h"
#include "model/promote.h"
#include "model/softmax_map.h"

namespace headlens {
namespace {

/// All rows of a map, as the kernels want them: [batch, query] int64.
Tensor all_rows(const Tensor& q) {
  return at::arange(q.size(1), q.options().dtype(at::kLong)).expand({q.size(0), q.size(1)});
}

/// softmax over keys; a row that hides every key becomes 0. [batch, head, q, k]
Tensor pattern_of(const Tensor& scores) {
  const Tensor hidden = scores.isneginf().all(-1, /*keepdim=*/true);
  return at::softmax(scores, -1).masked_fill(hidden, 0);
}

/// Makes `map` give the rows of `pattern` [batch, head, q, k] from now on.
void replace_map(HeadMap& map, const Tensor& pattern) {
  MapEdit edit;
  edit.custom = [pattern](const Tensor&, const MapBlock& block) {
    const Tensor heads = at::tensor(block.heads, block.rows.options());
    const Tensor chosen = pattern.index_select(1, heads);
    const Tensor rows = block.rows.unsqueeze(1).unsqueeze(-1);  // [batch, 1, row, 1]
    return chosen.gather(2, rows.expand({-1, heads.numel(), -1, pattern.size(-1)}));
  };
  map.edit(std::move(edit));
}

/// Shows the scores before the softmax; where they are edited, the map follows them.
void tap_scores(HeadMap& map, const Tensor& q, const Tensor& k, const AttentionRule& rule,
                const LayerTap& tap) {
  if (!tap.wants(Site::AttnScores)) return;
  const Tensor scores = attention_score_rows(q, k, rule, all_rows(q), /*heads=*/{});
  const Tensor seen = tap(Site::AttnScores, scores);
  if (!seen.is_same(scores)) replace_map(map, pattern_of(seen));
}

/// The SSM state before the first position; undefined for zeros that nobody wants to see.
Tensor start_state(const LayerState* state, at::IntArrayRef shape, const Tensor& like,
                   const LayerTap& tap) {
  Tensor start = state != nullptr ? state->ssm : Tensor();
  if (!tap.wants(Site::StateStart)) return start;
  if (!start.defined()) {
    start = at::zeros(shape, like.options().dtype(at_least_float32(like.scalar_type())));
  }
  return tap(Site::StateStart, start);
}

}  // namespace

Tensor mix(HeadMap& map, const LayerTap& tap, Site site, const std::function<Tensor()>& fused) {
  if (tap.wants_map(site)) tap.visit_map(site, map);
  if (tap.wants(site)) {
    const Tensor dense = map.dense();
    const Tensor seen = tap(site, dense);
    if (!seen.is_same(dense)) return map.apply_dense(seen);
  }
  return map.edited() ? map.apply() : fused();
}

Tensor mix_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule,
                     const LayerTap& tap) {
  // Who asks for the dense map may replace it, and a z made outside the graph has no gradient.
  const bool records =
      c10::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  const SoftmaxForward forward =
      make_softmax_forward(q, k, v, rule, /*alone=*/records || tap.wants(Site::Pattern));
  tap_scores(*forward.map, q, k, rule, tap);
  return mix(*forward.map, tap, Site::Pattern, forward.z);
}

Tensor mix_ssd(LayerKind kind, const SsdLayerInputs& in, const LayerTap& tap, LayerState* state) {
  const auto& [x, log_decay, dt, B, C, chunk] = in;
  const Tensor start = start_state(state, {x.size(0), x.size(2), x.size(3), B.size(-1)}, x, tap);
  const SsdResult scan = ssd_scan(x, log_decay, dt, B, C, start, chunk);
  if (state != nullptr) state->ssm = scan.state;
  tap.show(Site::State, [&] { return ssd_states(in.x, in.log_decay, in.dt, in.B, start); });
  const auto map = make_ssd_map(kind, log_decay, dt, B, C, x, start);
  return tap(Site::Y, mix(*map, tap, Site::Map, [&] { return scan.y; }));
}

Tensor mix_s6(const S6LayerInputs& in, const LayerTap& tap, LayerState* state) {
  const auto& [x, dt, A, B, C] = in;
  const Tensor start = start_state(state, {x.size(0), x.size(2), A.size(1)}, x, tap);
  const SelectiveScanResult scan = selective_scan(x, dt, A, B, C, start);
  if (state != nullptr) state->ssm = scan.state;
  tap.show(Site::State, [&] { return selective_scan_states(in.x, in.dt, in.A, in.B, start); });
  const auto map = make_s6_map(dt, A, B, C, x, start);
  // The map's heads are channels of width 1.
  const Tensor y = mix(*map, tap, Site::Map, [&] { return scan.y.unsqueeze(-1); });
  return tap(Site::Y, y.squeeze(-1));
}

Tensor convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerTap& tap,
                LayerState* state, const Tensor& real) {
  const Tensor before = state != nullptr ? state->conv : Tensor();
  const Tensor read = tap(Site::ConvIn, hide_padding(x, real));
  const CausalConvResult result = causal_conv1d(read, weight.squeeze(1), bias, before);
  if (state != nullptr) state->conv = result.state;
  return tap(Site::Conv, result.y);
}

Tensor convolve_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerTap& tap,
                     LayerState* state, const Tensor& real) {
  if (!x.is_cuda() || tap.wants(Site::Conv)) {
    return hide_padding(at::silu(convolve(x, weight, bias, tap, state, real)), real);
  }
  const Tensor before = state != nullptr ? state->conv : Tensor();
  const Tensor read = tap(Site::ConvIn, hide_padding(x, real));
  const CausalConvSiluResult result =
      causal_conv1d_silu(read, weight.squeeze(1), bias, before, /*keep_y=*/false);
  if (state != nullptr) state->conv = result.state;
  return hide_padding(result.silu, real);
}

}  // namespace headlens
