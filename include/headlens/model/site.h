// headlens/model: the named places of a forward pass, and the Tap that is called at each.
#pragma once

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"

namespace headlens {

class HeadMap;

/// Every place a tensor can be read or edited. Names and shapes: docs/sites.md, `site_name`,
/// `sites_of`.
enum class Site : uint8_t {
  // Whole model.
  Embed,            ///< hook_embed                [batch, pos, d_model], with its multiplier
  PosEmbed,         ///< hook_pos_embed            [batch, pos, d_model]; learned positions (GPT-2)
  FinalScale,       ///< ln_final.hook_scale       [batch, pos, 1]
  FinalNormalized,  ///< ln_final.hook_normalized  [batch, pos, d_model]
  Logits,           ///< logits                    [batch, pos, vocab]
  // Every block: blocks.{i}.
  ResidPre,       ///< hook_resid_pre   [batch, pos, d_model]
  Ln1Scale,       ///< ln1.hook_scale   [batch, pos, 1]; root mean square, as TransformerLens has it
  Ln1Normalized,  ///< ln1.hook_normalized  [batch, pos, d_model], after the weight
  Ln1PostScale,   ///< ln1_post.hook_scale; the norm of the mixer's output, where there is one
  Ln1PostNormalized,  ///< ln1_post.hook_normalized
  ResidMid,           ///< hook_resid_mid, only where the MLP reads what the mixer has written
  Ln2Scale,           ///< ln2.hook_scale
  Ln2Normalized,      ///< ln2.hook_normalized
  Ln2PostScale,       ///< ln2_post.hook_scale; the norm of the MLP's output, where there is one
  Ln2PostNormalized,  ///< ln2_post.hook_normalized
  MlpPre,        ///< mlp.hook_pre         [batch, pos, d_mlp]; the gate, or the only projection
  MlpPreLinear,  ///< mlp.hook_pre_linear  [batch, pos, d_mlp]; gated MLPs
  MlpPost,       ///< mlp.hook_post        [batch, pos, d_mlp]; input of the down projection
  MlpOut,        ///< hook_mlp_out         [batch, pos, d_model]; what the residual gets
  SharedOut,  ///< hook_shared_out      [batch, pos, d_model]; what a shared block gives the mixer
  LnMixerScale,       ///< ln_mixer.hook_scale; the norm of a mixer behind a shared block
  LnMixerNormalized,  ///< ln_mixer.hook_normalized
  ResidPost,          ///< hook_resid_post
  // Attention: blocks.{i}.attn.
  Q,           ///< hook_q           [batch, pos, head, d_head]
  K,           ///< hook_k           [batch, pos, kv_head, d_head]
  V,           ///< hook_v           [batch, pos, kv_head, d_head]
  QNormed,     ///< hook_q_normed    [batch, pos, head, d_head]; where queries are normed
  KNormed,     ///< hook_k_normed    [batch, pos, kv_head, d_head]
  RotQ,        ///< hook_rot_q       [batch, pos, head, d_head]
  RotK,        ///< hook_rot_k       [batch, pos, kv_head, d_head]
  AttnScores,  ///< hook_attn_scores [batch, head, q, k], -inf above the diagonal
  Pattern,     ///< hook_pattern     [batch, head, q, k]; the attention layer's map
  Z,        ///< hook_z           [batch, pos, head, d_head]; input of o_proj: where heads are cut
  Result,   ///< hook_result      [batch, pos, head, d_model]
  AttnOut,  ///< blocks.{i}.hook_attn_out [batch, pos, d_model]; what the residual gets
  // SSM layers: blocks.{i}.mixer.
  // "head.." is [head, d_head] for Mamba-2 kinds, [channel] for Mamba-1. ABar, BBar and State are
  // made only when wanted.
  InProj,      ///< hook_in_proj     [batch, pos, d_in_proj]: the whole projection
  Gate,        ///< hook_gate        [batch, pos, d_inner]: z before its activation
  ConvIn,      ///< hook_conv_in     [batch, pos, d_conv_channels]
  Conv,        ///< hook_conv        [batch, pos, d_conv_channels]: before the activation
  SsmInput,    ///< hook_ssm_input   [batch, pos, head..]: x, what the scan reads
  DtLowRank,   ///< hook_dt_lowrank  [batch, pos, dt_rank]; Mamba-1: what dt_proj reads
  DtPre,       ///< hook_dt_pre      [batch, pos, head|channel]: before bias and softplus
  Dt,          ///< hook_dt          [batch, pos, head|channel]: after softplus and clamp
  B,           ///< hook_B           [batch, pos, group, d_state]; Mamba-1 [batch, pos, d_state]
  C,           ///< hook_C           as B
  A,           ///< hook_A           [channel, d_state] (Mamba-1), [head] (Mamba-2),
               ///<                  [batch, pos, head] (Llamba: the log decay)
  ABar,        ///< hook_A_bar       [batch, pos, channel, d_state]; Mamba-1
  BBar,        ///< hook_B_bar       [batch, pos, channel, d_state]; Mamba-1
  StateStart,  ///< hook_state_start [batch, head.., d_state]: state before the first position
  State,       ///< hook_state       [batch, pos, head.., d_state]: after each position
  Map,         ///< hook_map         [batch, head|channel, q, k]; the SSM layer's map M
  Y,           ///< hook_y           [batch, pos, head..]: M x, without the D skip
  SsmOut,      ///< hook_ssm_out     [batch, pos, head..]: with the D skip, before gate and norm
  MixerZ,      ///< hook_z           [batch, pos, head..]: input of out_proj: where heads are cut
  MixerOut,    ///< hook_out         [batch, pos, d_model]
  kCount       ///< how many sites there are
};

/// A site in a layer; `layer` is -1 for the sites of the whole model.
struct TapPoint {
  Site site;           ///< which
  int64_t layer = -1;  ///< -1: of the whole model
  bool operator==(const TapPoint&) const = default;
  /// By layer, then in the order of Site.
  std::strong_ordering operator<=>(const TapPoint& other) const {
    const auto by_layer = layer <=> other.layer;
    return by_layer != std::strong_ordering::equal ? by_layer : site <=> other.site;
  }
};

/// What the model calls at each site. Hooks implement it; the model knows nothing else of them.
///
/// A fused path runs only where nobody wants what it would hide: `wants(hook_pattern)` makes the
/// dense map of that layer, `wants_map` costs only what is asked of the handle.
class Tap {
 public:
  virtual ~Tap() = default;
  /// Is the tensor at `point` to be visited in this forward?
  virtual bool wants(TapPoint point) const = 0;
  /// Sees the tensor at `point`; what it returns (same shape) is what the forward goes on with. To
  /// edit, return another tensor: the one given may be shared with weights, states and other sites.
  virtual Tensor visit(TapPoint point, Tensor value) = 0;
  /// Is the map handle of `point` (Site::Pattern or Site::Map) to be visited, without making it
  /// dense?
  virtual bool wants_map(TapPoint /*point*/) const { return false; }
  /// Sees the map as a handle: read rows, reduce by streaming, edit.
  virtual void visit_map(TapPoint /*point*/, HeadMap& /*map*/) {}
};

/// Does a tap (none: nullptr) want anything of a layer?
bool wants_any(const Tap* tap, int64_t layer);

/// A tap bound to one layer; does nothing when there is no tap. This is what layers call.
class LayerTap {
 public:
  /// No tap: null.
  LayerTap(Tap* tap, int64_t layer) : tap_(tap), layer_(layer) {}
  /// As Tap::wants, in this layer.
  bool wants(Site site) const { return tap_ != nullptr && tap_->wants({site, layer_}); }
  /// As Tap::wants_map, in this layer.
  bool wants_map(Site site) const { return tap_ != nullptr && tap_->wants_map({site, layer_}); }
  /// Passes `value` through the tap where it is wanted; what comes back is brought to the dtype and
  /// device of `value`. ShapeError if the tap changed shape, HookError if it edited a site that can
  /// only be read.
  Tensor operator()(Site site, Tensor value) const;
  /// Passes what `make()` returns through the tap, and makes it only where it is wanted.
  template <typename Make>
  void show(Site site, Make make) const {
    if (wants(site)) (*this)(site, make());
  }
  /// As Tap::visit_map; only where wants_map.
  void visit_map(Site site, HeadMap& map) const { tap_->visit_map({site, layer_}, map); }
  int64_t layer() const { return layer_; }  ///< -1: of the whole model

 private:
  Tap* tap_;
  int64_t layer_;
};

/// Sites whose tensor is made to be looked at only (State, ABar, BBar): the forward does not read
/// it again.
bool site_is_read_only(Site site);

/// "blocks.3.attn.hook_pattern", "hook_embed", "logits".
std::string site_name(TapPoint point);
/// Canonical names only (aliases live in hooks/hook_name.h); nullopt for anything else.
std::optional<TapPoint> parse_site_name(std::string_view name);

/// A site a model has, with its shape in dimension names and, where the model fixes them, sizes.
struct SiteInfo {
  TapPoint point;                 ///< site and layer
  std::string name;               ///< canonical
  std::string shape;              ///< "[batch, pos, head=8, d_head=16]"
  std::vector<std::string> dims;  ///< "batch", "pos", "head", "d_head"
  std::vector<int64_t> sizes;     ///< -1, -1, 8, 16: -1 where the size depends on the prompt
};

/// All sites of the model in the order a forward fires them.
std::vector<SiteInfo> sites_of(const ModelConfig& config);
/// Elements the tensor of `point` holds for a batch of `batch` prompts of `pos` tokens, without a
/// state. HookError if the model has no such site.
int64_t site_numel(const ModelConfig& config, TapPoint point, int64_t batch, int64_t pos);

}  // namespace headlens
