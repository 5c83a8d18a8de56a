// headlens/model: what a model is made of, as plain structs read from config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace headlens {

/// Llama-3's frequency-dependent stretching of the rotary wavelengths ("rope_type": "llama3").
struct Llama3RopeScaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_max_position = 8192;
  bool operator==(const Llama3RopeScaling&) const = default;
};

/// Rotary position embedding over the first `rotary_dim` of each head's dimensions.
struct RopeSpec {
  double theta = 10000;
  int64_t rotary_dim = 0;
  std::optional<Llama3RopeScaling> llama3;
  bool operator==(const RopeSpec&) const = default;
};

/// Softmax attention with grouped key/value heads: query head h reads kv head h / (heads /
/// kv_heads).
struct AttentionSpec {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t d_head = 0;
  double scale = 0;  // multiplies q.k, usually 1/sqrt(d_head)
  bool qkv_bias = false;
  bool out_bias = false;
  std::optional<RopeSpec> rope;  // absent: no positions at all (Nemotron-H)
  bool operator==(const AttentionSpec&) const = default;
};

/// Mamba-1 / S6 (arXiv 2312.00752). Its "head" is one channel of d_inner.
struct Mamba1Spec {
  int64_t d_inner = 0;
  int64_t d_state = 0;
  int64_t d_conv = 0;
  int64_t dt_rank = 0;
  bool conv_bias = true;
  bool proj_bias = false;
  std::optional<double> bcdt_rms_eps;  // Falcon-Mamba: weightless RMS norm on B, C and low-rank dt
  bool operator==(const Mamba1Spec&) const = default;
};

/// Mamba-2 / SSD (arXiv 2405.21060). Head h reads group h / (heads / groups) of B and C.
struct Mamba2Spec {
  int64_t heads = 0;
  int64_t d_head = 0;
  int64_t d_state = 0;
  int64_t groups = 1;
  int64_t d_conv = 0;
  int64_t chunk = 64;  // length of a chunk of the scan; no effect on the result
  bool conv_bias = true;
  bool proj_bias = false;
  double dt_min = 0;        // dt is clamped to [dt_min, dt_max] after the softplus
  double dt_max = 0;        // 0: no upper limit
  double norm_eps = 1e-5;   // gated RMS norm between scan and out_proj
  int64_t norm_groups = 1;  // the gated norm's statistics are taken over d_inner / norm_groups
  int64_t d_inner() const { return heads * d_head; }
  bool operator==(const Mamba2Spec&) const = default;
};

/// Llamba's DiscreteMamba2 (arXiv 2502.14458): decay exp(-softplus(A_log_t)), no dt, no gated norm.
struct DiscreteMamba2Spec {
  int64_t v_heads = 0;
  int64_t qk_heads = 0;
  int64_t d_head = 0;
  int64_t d_state = 0;
  int64_t d_conv = 0;
  int64_t chunk = 64;
  bool conv_bias = true;
  bool proj_bias = false;
  bool conv_silu = false;  // the published models use the identity
  int64_t d_inner() const { return v_heads * d_head; }
  bool operator==(const DiscreteMamba2Spec&) const = default;
};

enum class Activation { Silu, Gelu, GeluTanh, Relu2 };

/// Gated: down(act(gate x) * up x). Plain: down(act(up x)).
struct MlpSpec {
  int64_t d_mlp = 0;
  Activation activation = Activation::Silu;
  bool gated = true;
  bool bias = false;
  bool operator==(const MlpSpec&) const = default;
};

using MixerSpec = std::variant<AttentionSpec, Mamba1Spec, Mamba2Spec, DiscreteMamba2Spec>;

/// One block: residual += mixer(norm1(residual)); residual += mlp(norm2(residual)). Either may be
/// absent.
struct LayerSpec {
  std::optional<MixerSpec> mixer;
  std::optional<MlpSpec> mlp;
  bool operator==(const LayerSpec&) const = default;
};

/// What kind of map a layer has; the names of scores.json.
enum class LayerKind { None, Attention, Mamba1, Mamba2, DiscreteMamba2 };

LayerKind layer_kind(const LayerSpec& layer);
/// "attention", "mamba1", "mamba2", "discrete_mamba2", or "none" for a block without a mixer.
std::string layer_kind_name(LayerKind kind);
/// Heads a user can name in this layer: query heads, SSM heads, or channels (Mamba-1); 0 without a
/// mixer.
int64_t head_count(const LayerSpec& layer);
/// Width of one head's own output (the slice of o_proj's / out_proj's input): d_head, or 1 for
/// Mamba-1.
int64_t head_width(const LayerSpec& layer);

/// A whole model as a list of layers: a hybrid is a list of unlike layers.
struct ModelConfig {
  std::string family;        // "llama", "mamba", "falcon_mamba", "mamba2", "llamba", "bamba", ...
  std::string architecture;  // config.json's architectures[0]
  int64_t vocab_size = 0;
  int64_t d_model = 0;
  double norm_eps = 1e-5;
  bool tied_embeddings = false;
  bool residual_in_fp32 = false;  // keep the residual stream in at least float32 (Mamba families)
  std::string dtype = "float32";  // the checkpoint's own
  std::vector<int64_t> eos_token_ids;
  std::vector<LayerSpec> layers;
  bool operator==(const ModelConfig&) const = default;
};

}  // namespace headlens
