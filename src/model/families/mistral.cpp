// headlens/model: the Mistral family: Llama with a sliding window.
#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kDefaults = {.norm_eps = 1e-6, .tied = false, .kv_heads = 8};

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kDefaults);
  AttentionSpec attention = read_gqa(fields, config.d_model, kDefaults);
  attention.window = read_window(fields, "sliding_window", 4096);
  LayerSpec layer;
  layer.mixer = attention;
  layer.mlp = read_gated_mlp(fields);
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  config.layers.assign(static_cast<size_t>(layers), layer);
  return config;
}

json write(const ModelConfig& config) {
  uniform_mixer<AttentionSpec>(config);
  json out = write_transformer(mistral_family(), config);
  write_windows(config, out);
  return out;
}

}  // namespace

Family mistral_family() {
  return {"mistral", "mistral", {"MistralForCausalLM"}, parse, write, {llama_names()}};
}

}  // namespace headlens
