// headlens/hooks: the table of other libraries' names for our sites.
#include "hooks/site_alias.h"

#include <array>

namespace headlens {
namespace {

using enum AliasScope;
using V = SiteView;

constexpr std::array kAliases = {
    // TransformerLens, whole model.
    AliasRow{"embed.hook_out", Site::Embed, WholeModel},
    AliasRow{"pos_embed.hook_out", Site::PosEmbed, WholeModel},
    AliasRow{"ln_final.hook_out", Site::FinalNormalized, WholeModel},
    AliasRow{"unembed.hook_in", Site::FinalNormalized, WholeModel},
    AliasRow{"unembed.hook_out", Site::Logits, WholeModel},
    // TransformerLens, every block.
    AliasRow{"hook_in", Site::ResidPre},
    AliasRow{"hook_out", Site::ResidPost},
    AliasRow{"ln1.hook_in", Site::ResidPre, NormsResidPre, V::BranchInput},
    AliasRow{"ln1.hook_out", Site::Ln1Normalized},
    AliasRow{"ln1_post.hook_out", Site::Ln1PostNormalized},
    AliasRow{"ln2.hook_in", Site::ResidMid, NormsResidPre, V::BranchInput},
    AliasRow{"ln2.hook_in", Site::ResidPre, MlpReadsResidPre, V::BranchInput},
    AliasRow{"ln2.hook_in", Site::AttnOut, SharedBlocks},
    AliasRow{"ln2.hook_out", Site::Ln2Normalized},
    AliasRow{"ln2_post.hook_out", Site::Ln2PostNormalized},
    AliasRow{"hook_mlp_in", Site::ResidMid, AnyLayer, V::BranchInput},
    AliasRow{"hook_mlp_in", Site::ResidPre, MlpReadsResidPre, V::BranchInput},
    AliasRow{"hook_mlp_in", Site::AttnOut, SharedBlocks},
    AliasRow{"mlp.hook_in", Site::Ln2Normalized},
    AliasRow{"mlp.hook_in", Site::ResidMid, PostNormOnly, V::BranchInput},
    AliasRow{"mlp.gate.hook_out", Site::MlpPre, GatedMlp},
    AliasRow{"mlp.in.hook_out", Site::MlpPreLinear, GatedMlp},
    AliasRow{"mlp.in.hook_out", Site::MlpPre, PlainMlp},
    AliasRow{"mlp.out.hook_in", Site::MlpPost},
    AliasRow{"mlp.out.hook_out", Site::MlpOut, NoPostNorm},
    AliasRow{"mlp.hook_out", Site::MlpOut, NoPostNorm},
    // TransformerLens, attention.
    AliasRow{"hook_attn_in", Site::ResidPre, NotShared, V::HeadCopies},
    AliasRow{"hook_q_input", Site::ResidPre, NotShared, V::HeadCopies},
    AliasRow{"hook_k_input", Site::ResidPre, NotShared, V::HeadCopies},
    AliasRow{"hook_v_input", Site::ResidPre, NotShared, V::HeadCopies},
    AliasRow{"attn.q.hook_out", Site::Q},
    AliasRow{"attn.k.hook_out", Site::K},
    AliasRow{"attn.v.hook_out", Site::V},
    AliasRow{"attn.q_norm.hook_out", Site::QNormed},
    AliasRow{"attn.k_norm.hook_out", Site::KNormed},
    AliasRow{"attn.o.hook_in", Site::Z},
    AliasRow{"attn.o.hook_out", Site::AttnOut, NoPostNorm},
    AliasRow{"attn.hook_out", Site::AttnOut, NoPostNorm},
    // TransformerLens, SSM blocks.
    AliasRow{"hook_mixer_out", Site::MixerOut},
    AliasRow{"hook_mixer_in", Site::Ln1Normalized, NotShared},
    AliasRow{"hook_mixer_in", Site::LnMixerNormalized, SharedBlocks},
    AliasRow{"mixer.in_proj.hook_out", Site::InProj},
    AliasRow{"mixer.conv1d.hook_out", Site::Conv, AnyLayer, V::Transposed},
    AliasRow{"mixer.dt_proj.hook_out", Site::Dt, Mamba1, V::BeforeSoftplus},
    AliasRow{"mixer.hook_dt_proj", Site::Dt, Mamba1, V::BeforeSoftplus},
    AliasRow{"mixer.hook_ssm_dt", Site::Dt, Mamba1, V::BeforeSoftplus},
    AliasRow{"mixer.hook_ssm_state", Site::State, Mamba1, V::Transposed},
    AliasRow{"mixer.hook_ssm_state", Site::State, SsdKinds},
    AliasRow{"mixer.inner_norm.hook_in", Site::SsmOut, GatedNorms, V::Flat},
    AliasRow{"mixer.inner_norm.hook_gate", Site::Gate, GatedNorms},
    AliasRow{"mixer.inner_norm.hook_out", Site::MixerZ, GatedNorms, V::Flat},
    AliasRow{"mixer.hook_inner_norm", Site::MixerZ, GatedNorms, V::Flat},
    AliasRow{"mixer.out_proj.hook_in", Site::MixerZ, SsdKinds, V::Flat},
    AliasRow{"mixer.out_proj.hook_in", Site::MixerZ, Mamba1},
    AliasRow{"mixer.out_proj.hook_out", Site::MixerOut},
    // MambaLens. Its hook_in_proj is the half of in_proj that goes to the convolution.
    AliasRow{"hook_norm", Site::FinalNormalized, WholeModel},
    AliasRow{"hook_logits", Site::Logits, WholeModel},
    AliasRow{"hook_layer_input", Site::ResidPre, AnyLayer, V::BranchInput},
    AliasRow{"hook_normalized_input", Site::Ln1Normalized, NotShared},
    AliasRow{"hook_normalized_input", Site::LnMixerNormalized, SharedBlocks},
    AliasRow{"hook_skip", Site::Gate},
    AliasRow{"hook_in_proj", Site::ConvIn, Mamba1},
    AliasRow{"hook_conv", Site::Conv},
    AliasRow{"hook_ssm_input", Site::SsmInput},
    AliasRow{"hook_h_start", Site::StateStart},
    AliasRow{"hook_delta_1", Site::DtLowRank},
    AliasRow{"hook_delta_2", Site::Dt, Mamba1, V::BeforeSoftplus},
    AliasRow{"hook_delta", Site::Dt},
    AliasRow{"hook_A", Site::A},
    AliasRow{"hook_A_bar", Site::ABar},
    AliasRow{"hook_B", Site::B},
    AliasRow{"hook_B_bar", Site::BBar},
    AliasRow{"hook_C", Site::C},
    AliasRow{"hook_h", Site::State, AnyLayer, V::Position},  // named hook_h.{pos}
    AliasRow{"hook_y", Site::Y},
    AliasRow{"hook_ssm_output", Site::SsmOut},
    AliasRow{"hook_after_skip", Site::MixerZ},
    AliasRow{"hook_out_proj", Site::MixerOut},
};

constexpr std::array kUnmatched = {
    UnmatchedName{"hook_pos_embed",
                  "this model learns no positions; if they are rotary, see attn.hook_rot_q and "
                  "attn.hook_rot_k"},
    UnmatchedName{"pos_embed.hook_out",
                  "this model learns no positions; if they are rotary, see attn.hook_rot_q and "
                  "attn.hook_rot_k"},
    UnmatchedName{"hook_tokens", "the token ids are the forward's own argument"},
    UnmatchedName{"embed.hook_in", "the token ids are the forward's own argument"},
    UnmatchedName{"attn.hook_q_normed", "these layers do not norm their queries: see attn.hook_q"},
    UnmatchedName{"attn.hook_k_normed", "these layers do not norm their keys: see attn.hook_k"},
    UnmatchedName{"attn.hook_q_gate", "no family here gates its queries"},
    UnmatchedName{"attn.hook_cos", "see attn.hook_rot_q and attn.hook_rot_k"},
    UnmatchedName{"attn.hook_sin", "see attn.hook_rot_q and attn.hook_rot_k"},
    UnmatchedName{"mlp.hook_gate", "no family here has experts"},
    UnmatchedName{"mlp.hook_expert_weights", "no family here has experts"},
    UnmatchedName{"mlp.hook_expert_indices", "no family here has experts"},
    UnmatchedName{"mixer.x_proj.hook_out", "see mixer.hook_dt_lowrank, hook_B and hook_C"},
    UnmatchedName{"mixer.hook_x_proj", "see mixer.hook_dt_lowrank, hook_B and hook_C"},
    UnmatchedName{"mixer.hook_ssm_write", "it is mixer.hook_B_bar times hook_ssm_input"},
    UnmatchedName{"linear_attn.*", "no family here is a gated delta net"},
    UnmatchedName{"hook_h", "name a position, hook_h.5, or all of them, mixer.hook_state"},
    UnmatchedName{"hook_h.*", "name a position, hook_h.5, or all of them, mixer.hook_state"},
};

/// Of SSM kinds, which only a layer's own mixer can be.
bool is_kind(const LayerSpec& layer, LayerKind kind) {
  return layer_kind(layer) == kind;
}

bool has_gated_norm(const LayerSpec& layer) {
  const auto* spec = layer.mixer ? std::get_if<Mamba2Spec>(&*layer.mixer) : nullptr;
  return spec != nullptr && spec->gated_norm != GatedNorm::GateOnly;
}

bool has_post_norm(const LayerSpec& layer) {
  return layer.wiring == Wiring::PostNorm || layer.wiring == Wiring::SandwichNorm;
}

}  // namespace

std::span<const AliasRow> alias_table() {
  return kAliases;
}

std::span<const UnmatchedName> unmatched_names() {
  return kUnmatched;
}

bool alias_fits(AliasScope scope, const LayerSpec& layer) {
  switch (scope) {
    case WholeModel:
      return false;
    case AnyLayer:
      return true;
    case AliasScope::Mamba1:
      return is_kind(layer, LayerKind::Mamba1);
    case GatedNorms:
      return has_gated_norm(layer);
    case SsdKinds:
      return is_kind(layer, LayerKind::Mamba2) || is_kind(layer, LayerKind::DiscreteMamba2);
    case MlpReadsResidPre:
      return layer.mlp && (!layer.mixer || layer.wiring == Wiring::Parallel);
    case NormsResidPre:
      return layer.wiring != Wiring::PostNorm && layer.wiring != Wiring::SharedBlock;
    case NoPostNorm:
      return !has_post_norm(layer);
    case PostNormOnly:
      return layer.wiring == Wiring::PostNorm;
    case SharedBlocks:
      return layer.wiring == Wiring::SharedBlock;
    case NotShared:
      return layer.wiring != Wiring::SharedBlock;
    case GatedMlp:
      return layer.mlp && layer.mlp->gated;
    case PlainMlp:
      return layer.mlp && !layer.mlp->gated;
  }
  return false;
}

}  // namespace headlens
