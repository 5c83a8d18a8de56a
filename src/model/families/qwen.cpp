// headlens/model: the Qwen2 and Qwen3 families: biases of q, k, v, or norms of q and k.
#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kQwen2 = {.norm_eps = 1e-6, .tied = false, .kv_heads = 32};
constexpr TransformerDefaults kQwen3 = {
    .norm_eps = 1e-6, .tied = false, .kv_heads = 32, .d_head = 128};

ModelConfig with_layers(const JsonFields& fields, AttentionSpec attention, ModelConfig config) {
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  const MlpSpec mlp = read_gated_mlp(fields);
  for (const int64_t window : read_qwen_windows(fields, layers)) {
    attention.window = window;
    LayerSpec layer;
    layer.mixer = attention;
    layer.mlp = mlp;
    config.layers.push_back(layer);
  }
  return config;
}

ModelConfig parse_qwen2(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kQwen2);
  AttentionSpec attention = read_gqa(fields, config.d_model, kQwen2);
  attention.qkv_bias = true;
  return with_layers(fields, attention, std::move(config));
}

ModelConfig parse_qwen3(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kQwen3);
  AttentionSpec attention = read_gqa(fields, config.d_model, kQwen3);
  attention.qk_norm = QkNorm::PerHead;
  attention.qkv_bias = attention.out_bias = fields.optional("attention_bias", false);
  return with_layers(fields, attention, std::move(config));
}

json write_with(const Family& family, const ModelConfig& config) {
  json out = write_transformer(family, config);
  json types = json::array();
  int64_t window = 0;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    window = std::max(window, attention_of(config, i).window);
    types.push_back(attention_of(config, i).window > 0 ? "sliding_attention" : "full_attention");
  }
  out["use_sliding_window"] = window > 0;
  out["sliding_window"] = window > 0 ? json(window) : json();
  out["layer_types"] = types;
  return out;
}

json write_qwen2(const ModelConfig& config) {
  return write_with(qwen2_family(), config);
}

json write_qwen3(const ModelConfig& config) {
  json out = write_with(qwen3_family(), config);
  out["attention_bias"] = attention_of(config).qkv_bias;
  return out;
}

}  // namespace

Family qwen2_family() {
  return {"qwen2", "qwen2", {"Qwen2ForCausalLM"}, parse_qwen2, write_qwen2, {llama_names()}};
}

Family qwen3_family() {
  return {"qwen3", "qwen3", {"Qwen3ForCausalLM"}, parse_qwen3, write_qwen3, {llama_names()}};
}

}  // namespace headlens
