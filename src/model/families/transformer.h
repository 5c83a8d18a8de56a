// headlens/model: the readers and writers that families of decoder-only Transformers share.
#pragma once

#include <optional>

#include "model/families/family.h"

namespace headlens {

/// What the formats differ in when a key is absent.
struct TransformerDefaults {
  double norm_eps = 1e-6;
  bool tied = false;
  std::optional<int64_t> kv_heads = std::nullopt;  // absent: as many as query heads
  std::optional<int64_t> d_head = std::nullopt;    // absent: d_model / heads
};

/// Vocabulary, width, norm and tied embeddings under Llama's keys.
ModelConfig read_transformer(const JsonFields& json, const TransformerDefaults& defaults);
/// Heads, their width and grouping under Llama's keys; no biases, no positions.
AttentionSpec read_heads(const JsonFields& json, int64_t d_model,
                         const TransformerDefaults& defaults);
/// The same with rotary positions; `rotary_factor` is the part of d_head that turns.
AttentionSpec read_gqa(const JsonFields& json, int64_t d_model, const TransformerDefaults& defaults,
                       double rotary_factor = 1);
/// A gated MLP under Llama's keys, without biases.
MlpSpec read_gated_mlp(const JsonFields& json, const char* activation_key = "hidden_act",
                       std::string_view activation = "silu");

/// A key whose absence and whose null differ: `fallback` where it is absent, 0 where it is null.
/// ConfigError unless it is a size.
int64_t read_window(const JsonFields& json, const char* key, int64_t fallback);
/// `layer_types`, full_attention or sliding_attention for each of `layers`; empty where absent.
std::vector<bool> read_sliding_layers(const JsonFields& json, int64_t layers);
/// Qwen's rules: `use_sliding_window`, `sliding_window`, `max_window_layers` and `layer_types`.
/// The window of each layer, 0 for none.
std::vector<int64_t> read_qwen_windows(const JsonFields& json, int64_t layers);

/// What read_transformer, read_gqa and read_gated_mlp read, of the first layer.
nlohmann::json write_transformer(const Family& family, const ModelConfig& config);
/// `sliding_window` and, where layers differ, `layer_types`.
void write_windows(const ModelConfig& config, nlohmann::json& out);
/// The attention of a layer; ConfigError where it has another mixer.
const AttentionSpec& attention_of(const ModelConfig& config, size_t layer = 0);

/// The first spec of one kind of mixer among the layers; ConfigError if no layer has it.
template <typename Spec>
const Spec& first_mixer(const ModelConfig& config) {
  for (const LayerSpec& layer : config.layers) {
    if (layer.mixer && std::holds_alternative<Spec>(*layer.mixer)) {
      return std::get<Spec>(*layer.mixer);
    }
  }
  HEADLENS_FAIL(ConfigError,
                "[write_model_config] layers of family '{}', expected each of its kinds of mixer, "
                "got one of them only",
                config.family);
}

/// Llama's names of tensors.
TensorNames llama_names();
/// The names of Bamba, Jamba, Falcon-H1 and Zamba2.
TensorNames hybrid_names();

}  // namespace headlens
