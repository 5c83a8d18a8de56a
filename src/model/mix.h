// headlens/model: the one place that chooses between a fused mixer and its map.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "headlens/core/dtype.h"
#include "headlens/kernels/attention.h"
#include "headlens/model/config.h"
#include "headlens/model/head_map.h"
#include "headlens/model/prompt.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// y = M x (+ what an incoming state carries), [batch, query, head, width].
///
/// Taps see the map first: as a handle (`wants_map`), then dense (`wants`). A map that they edited,
/// or a dense one that they replaced, is what gets applied; where nobody touched it `fused()` gives
/// the result.
Tensor mix(HeadMap& map, const LayerTap& tap, Site site, const std::function<Tensor()>& fused);

/// Softmax attention by that rule, with the sites AttnScores and Pattern.
/// q [batch, query, head, d_head]; k, v [batch, key, kv_head, d_head]; returns [batch, query, head,
/// d_head].
Tensor mix_attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule,
                     const LayerTap& tap);

/// What an SSD layer's scan reads; shapes as in `ssd_scan`.
struct SsdLayerInputs {
  Tensor x;          // [batch, pos, head, d_head]
  Tensor log_decay;  // [batch, pos, head]
  Tensor dt;         // [batch, pos, head]; undefined: 1
  Tensor B;          // [batch, pos, group, d_state]
  Tensor C;          // [batch, pos, group, d_state]
  int64_t chunk = 64;
};
/// The SSD scan by that rule, with the sites StateStart, State, Map and Y: [batch, pos, head,
/// d_head]. The state left behind always comes from the true scan.
Tensor mix_ssd(LayerKind kind, const SsdLayerInputs& in, const LayerTap& tap, LayerState* state);

/// What an S6 layer's scan reads; shapes as in `selective_scan`.
struct S6LayerInputs {
  Tensor x;   // [batch, pos, channel]
  Tensor dt;  // [batch, pos, channel]
  Tensor A;   // [channel, d_state]
  Tensor B;   // [batch, pos, d_state]
  Tensor C;   // [batch, pos, d_state]
};
/// The S6 scan by that rule, with the same sites as `mix_ssd`: [batch, pos, channel].
Tensor mix_s6(const S6LayerInputs& in, const LayerTap& tap, LayerState* state);

/// Causal depthwise convolution before an SSM, with the sites ConvIn and Conv: [batch, pos,
/// d_conv_channels], before any activation. It reads 0 where the prompt is padded. weight
/// [d_conv_channels, 1, d_conv]; bias [d_conv_channels] or undefined.
Tensor convolve(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerTap& tap,
                LayerState* state, const Tensor& real);

/// silu of the same, 0 where the prompt is padded; in one pass on a GPU where nobody wants
/// Site::Conv.
Tensor convolve_silu(const Tensor& x, const Tensor& weight, const Tensor& bias, const LayerTap& tap,
                     LayerState* state, const Tensor& real);

}  // namespace headlens
