// headlens/model: the Gemma-2 family: soft caps, alternating windows, norms around each part.
#include <cmath>

#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kDefaults = {
    .norm_eps = 1e-6, .tied = true, .kv_heads = 4, .d_head = 256};

/// A soft cap: `fallback` where the key is absent, 0 (none) where it is null.
double read_softcap(const JsonFields& fields, const char* key, double fallback) {
  const auto found = fields.value().find(key);
  if (found != fields.value().end() && found->is_null()) return 0;
  const double cap = fields.optional(key, fallback);
  HEADLENS_CHECK(ConfigError, std::isfinite(cap) && cap > 0,
                 "[{}] key '{}', expected a finite number > 0 or null, got {}", fields.where(), key,
                 cap);
  return cap;
}

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model) {
  AttentionSpec spec = read_gqa(fields, d_model, kDefaults);
  spec.qkv_bias = spec.out_bias = fields.optional("attention_bias", false);
  const double scalar = fields.optional("query_pre_attn_scalar", 256.0);
  HEADLENS_CHECK(ConfigError, std::isfinite(scalar) && scalar > 0,
                 "[{}] key 'query_pre_attn_scalar', expected a finite number > 0, got {}",
                 fields.where(), scalar);
  spec.scale = 1 / std::sqrt(scalar);
  spec.softcap = read_softcap(fields, "attn_logit_softcapping", 50);
  return spec;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kDefaults);
  config.norm = NormKind::RmsPlusOne;
  config.embed_scale = std::sqrt(static_cast<double>(config.d_model));
  config.logit_softcap = read_softcap(fields, "final_logit_softcapping", 30);
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  const AttentionSpec attention = read_attention(fields, config.d_model);
  const MlpSpec mlp = read_gated_mlp(fields, "hidden_activation", "gelu_pytorch_tanh");
  const int64_t window = read_window(fields, "sliding_window", 4096);
  const std::vector<bool> sliding = read_sliding_layers(fields, layers);
  for (int64_t i = 0; i < layers; ++i) {
    LayerSpec layer{attention, mlp, Wiring::SandwichNorm};
    const bool slides = sliding.empty() ? i % 2 == 0 : sliding[static_cast<size_t>(i)];
    if (slides) std::get<AttentionSpec>(*layer.mixer).window = window;
    config.layers.push_back(layer);
  }
  allow_only(fields, "use_bidirectional_attention", {false});
  fields.ignore({"cache_implementation", "hidden_act"});  // the activation is hidden_activation's
  return config;
}

json write(const ModelConfig& config) {
  const AttentionSpec& attention = attention_of(config);
  json out = write_transformer(gemma2_family(), config);
  out.erase("hidden_act");
  out["hidden_activation"] = activation_name(config.layers[0].mlp->activation);
  out["attention_bias"] = attention.qkv_bias;
  out["query_pre_attn_scalar"] = 1 / (attention.scale * attention.scale);
  out["attn_logit_softcapping"] = attention.softcap > 0 ? json(attention.softcap) : json();
  out["final_logit_softcapping"] = config.logit_softcap > 0 ? json(config.logit_softcap) : json();
  write_windows(config, out);
  if (!out.contains("layer_types")) {
    const char* type = attention.window > 0 ? "sliding_attention" : "full_attention";
    out["layer_types"] = std::vector<std::string>(config.layers.size(), type);
  }
  return out;
}

TensorNames names() {
  TensorNames names = llama_names();
  names.norm1_post = "post_attention_layernorm";
  names.norm2 = "pre_feedforward_layernorm";
  names.norm2_post = "post_feedforward_layernorm";
  return names;
}

}  // namespace

Family gemma2_family() {
  return {"gemma2", "gemma2", {"Gemma2ForCausalLM"}, parse, write, {names()}};
}

}  // namespace headlens
