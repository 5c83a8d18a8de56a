// headlens/model: which sites a model has, and their shapes.
#include "core/check.h"
#include "headlens/model/site.h"

namespace headlens {
namespace {

constexpr int64_t kOfPrompt = -1;

struct Dim {
  std::string name;
  int64_t size = kOfPrompt;
};
using Dims = std::vector<Dim>;

/// Collects sites in firing order.
class SiteList {
 public:
  explicit SiteList(const ModelConfig& config) : config_(config) {}

  void add(Site site, const Dims& dims) {
    SiteInfo info{{site, layer_}, site_name({site, layer_}), "", {}, {}};
    for (const Dim& dim : dims) {
      const bool fixed = dim.size != kOfPrompt && dim.name != "1";  // "1", not "1=1"
      info.shape += info.shape.empty() ? "[" : ", ";
      info.shape += fixed ? fmt::format("{}={}", dim.name, dim.size) : dim.name;
      info.dims.push_back(dim.name);
      info.sizes.push_back(dim.size);
    }
    info.shape += "]";
    out_.push_back(std::move(info));
  }

  /// A site of shape [batch, pos, rest..].
  void add_tokens(Site site, const Dims& rest) {
    Dims dims = {{"batch"}, {"pos"}};
    dims.insert(dims.end(), rest.begin(), rest.end());
    add(site, dims);
  }

  void add_model() {
    add_tokens(Site::Embed, residual());
    if (config_.max_position > 0) add_tokens(Site::PosEmbed, residual());
    for (layer_ = 0; layer_ < static_cast<int64_t>(config_.layers.size()); ++layer_) {
      add_block(config_.layers[static_cast<size_t>(layer_)]);
    }
    layer_ = -1;
    add_tokens(Site::FinalScale, {{"1", 1}});
    add_tokens(Site::FinalNormalized, residual());
    add_tokens(Site::Logits, {{"vocab", config_.vocab_size}});
  }

  std::vector<SiteInfo> take() { return std::move(out_); }

 private:
  Dims residual() const { return {{"d_model", config_.d_model}}; }

  void add_block(const LayerSpec& layer) {
    add_tokens(Site::ResidPre, residual());
    if (layer.wiring == Wiring::SharedBlock) {
      add_shared_block(layer);
    } else {
      if (layer.mixer) add_mixers(layer);
      const bool between = layer.mixer && layer.mlp && layer.wiring != Wiring::Parallel;
      if (between) add_tokens(Site::ResidMid, residual());
      if (layer.mlp) add_mlp(*layer.mlp, layer.wiring);
    }
    add_tokens(Site::ResidPost, residual());
  }

  void add_mixers(const LayerSpec& layer) {
    if (layer.wiring != Wiring::PostNorm) {
      add_norm(Site::Ln1Scale, Site::Ln1Normalized, config_.d_model);
    }
    std::visit([this](const auto& spec) { add_mixer(spec); }, *layer.mixer);
    if (has_post_norms(layer.wiring)) {
      add_norm(Site::Ln1PostScale, Site::Ln1PostNormalized, config_.d_model);
    }
    if (layer_kind(layer) == LayerKind::Attention) add_tokens(Site::AttnOut, residual());
    if (!layer.attention) return;
    add_mixer(*layer.attention);
    add_tokens(Site::AttnOut, residual());
  }

  void add_shared_block(const LayerSpec& layer) {
    add_norm(Site::Ln1Scale, Site::Ln1Normalized, layer.attention->d_in);
    add_mixer(*layer.attention);
    add_tokens(Site::AttnOut, residual());
    add_mlp(*layer.mlp, layer.wiring);
    add_tokens(Site::SharedOut, residual());
    add_norm(Site::LnMixerScale, Site::LnMixerNormalized, config_.d_model);
    std::visit([this](const auto& spec) { add_mixer(spec); }, *layer.mixer);
  }

  void add_norm(Site scale, Site normalized, int64_t width) {
    add_tokens(scale, {{"1", 1}});
    add_tokens(normalized, {{"d_model", width}});
  }

  static bool has_post_norms(Wiring wiring) {
    return wiring == Wiring::PostNorm || wiring == Wiring::SandwichNorm;
  }

  void add_mlp(const MlpSpec& spec, Wiring wiring) {
    if (wiring != Wiring::PostNorm) {
      add_norm(Site::Ln2Scale, Site::Ln2Normalized, config_.d_model);
    }
    add_tokens(Site::MlpPre, {{"d_mlp", spec.d_mlp}});
    if (spec.gated) add_tokens(Site::MlpPreLinear, {{"d_mlp", spec.d_mlp}});
    add_tokens(Site::MlpPost, {{"d_mlp", spec.d_mlp}});
    if (has_post_norms(wiring)) {
      add_norm(Site::Ln2PostScale, Site::Ln2PostNormalized, config_.d_model);
    }
    add_tokens(Site::MlpOut, residual());
  }

  void add_mixer(const AttentionSpec& spec) {
    const Dims q = {{"head", spec.heads}, {"d_head", spec.d_head}};
    const Dims kv = {{"kv_head", spec.kv_heads}, {"d_head", spec.d_head}};
    add_tokens(Site::Q, q);
    add_tokens(Site::K, kv);
    add_tokens(Site::V, kv);
    if (spec.qk_norm != QkNorm::None) {
      add_tokens(Site::QNormed, q);
      add_tokens(Site::KNormed, kv);
    }
    if (spec.rope) {
      add_tokens(Site::RotQ, q);
      add_tokens(Site::RotK, kv);
    }
    add(Site::AttnScores, {{"batch"}, {"head", spec.heads}, {"q"}, {"k"}});
    add(Site::Pattern, {{"batch"}, {"head", spec.heads}, {"q"}, {"k"}});
    add_tokens(Site::Z, q);
    add_tokens(Site::Result, {{"head", spec.heads}, {"d_model", config_.d_model}});
  }

  void add_mixer(const Mamba1Spec& spec) {
    const Dim channel{"channel", spec.d_inner};
    const Dim d_state{"d_state", spec.d_state};
    add_conv(2 * spec.d_inner, spec.d_inner, spec.d_inner);
    add_tokens(Site::SsmInput, {channel});
    add_tokens(Site::DtLowRank, {{"dt_rank", spec.dt_rank}});
    add_tokens(Site::DtPre, {channel});
    add_tokens(Site::Dt, {channel});
    add_tokens(Site::B, {d_state});
    add_tokens(Site::C, {d_state});
    add(Site::A, {channel, d_state});
    add_tokens(Site::ABar, {channel, d_state});
    add_tokens(Site::BBar, {channel, d_state});
    add_scan({channel}, d_state);
  }

  void add_mixer(const Mamba2Spec& spec) {
    const int64_t conv = spec.d_inner() + 2 * spec.groups * spec.d_state;
    add_conv(spec.d_inner() + conv + spec.heads, spec.d_inner(), conv);
    add_tokens(Site::SsmInput, {{"head", spec.heads}, {"d_head", spec.d_head}});
    add_tokens(Site::DtPre, {{"head", spec.heads}});
    add_tokens(Site::Dt, {{"head", spec.heads}});
    add_ssd(spec.groups, spec.d_state);
    add(Site::A, {{"head", spec.heads}});
    add_scan({{"head", spec.heads}, {"d_head", spec.d_head}}, {"d_state", spec.d_state});
  }

  void add_mixer(const DiscreteMamba2Spec& spec) {
    const int64_t conv = spec.d_inner() + 2 * spec.qk_heads * spec.d_state;
    add_conv(spec.d_inner() + conv + spec.v_heads, spec.d_inner(), conv);
    add_tokens(Site::SsmInput, {{"head", spec.v_heads}, {"d_head", spec.d_head}});
    add_ssd(spec.qk_heads, spec.d_state);
    add_tokens(Site::A, {{"head", spec.v_heads}});
    add_scan({{"head", spec.v_heads}, {"d_head", spec.d_head}}, {"d_state", spec.d_state});
  }

  void add_conv(int64_t d_in_proj, int64_t d_inner, int64_t channels) {
    add_tokens(Site::InProj, {{"d_in_proj", d_in_proj}});
    add_tokens(Site::Gate, {{"d_inner", d_inner}});
    add_tokens(Site::ConvIn, {{"d_conv_channels", channels}});
    add_tokens(Site::Conv, {{"d_conv_channels", channels}});
  }

  void add_ssd(int64_t groups, int64_t d_state) {
    add_tokens(Site::B, {{"group", groups}, {"d_state", d_state}});
    add_tokens(Site::C, {{"group", groups}, {"d_state", d_state}});
  }

  void add_scan(const Dims& head, const Dim& d_state) {
    Dims state = head;
    state.push_back(d_state);
    Dims start = {{"batch"}};
    start.insert(start.end(), state.begin(), state.end());
    add(Site::StateStart, start);
    add_tokens(Site::State, state);
    add(Site::Map, {{"batch"}, head[0], {"q"}, {"k"}});
    add_tokens(Site::Y, head);
    add_tokens(Site::SsmOut, head);
    add_tokens(Site::MixerZ, head);
    add_tokens(Site::MixerOut, residual());
  }

  const ModelConfig& config_;
  int64_t layer_ = -1;
  std::vector<SiteInfo> out_;
};

}  // namespace

std::vector<SiteInfo> sites_of(const ModelConfig& config) {
  SiteList list(config);
  list.add_model();
  return list.take();
}

int64_t site_numel(const ModelConfig& config, TapPoint point, int64_t batch, int64_t pos) {
  for (const SiteInfo& info : sites_of(config)) {
    if (!(info.point == point)) continue;
    int64_t numel = 1;
    for (size_t i = 0; i < info.dims.size(); ++i) {
      const int64_t of_prompt = info.dims[i] == "batch" ? batch : pos;
      numel *= info.sizes[i] == kOfPrompt ? of_prompt : info.sizes[i];
    }
    return numel;
  }
  HEADLENS_FAIL(HookError, "[site_numel] the model has no site '{}'", site_name(point));
}

}  // namespace headlens
