// headlens/model: the OLMo-2 family: norms after each part, and of all of q and k.
#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kDefaults = {.norm_eps = 1e-5};

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kDefaults);
  AttentionSpec attention = read_gqa(fields, config.d_model, kDefaults);
  attention.qk_norm = QkNorm::Whole;
  attention.qkv_bias = attention.out_bias = fields.optional("attention_bias", false);
  const LayerSpec layer{attention, read_gated_mlp(fields), Wiring::PostNorm};
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  config.layers.assign(static_cast<size_t>(layers), layer);
  return config;
}

json write(const ModelConfig& config) {
  json out = write_transformer(olmo2_family(), config);
  out["attention_bias"] = uniform_mixer<AttentionSpec>(config).qkv_bias;
  return out;
}

TensorNames names() {
  TensorNames names = llama_names();
  names.norm1_post = "post_attention_layernorm";
  names.norm2_post = "post_feedforward_layernorm";
  return names;
}

}  // namespace

Family olmo2_family() {
  return {"olmo2", "olmo2", {"Olmo2ForCausalLM"}, parse, write, {names()}};
}

}  // namespace headlens
