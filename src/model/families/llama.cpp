// headlens/model: the Llama family.
#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, {});
  LayerSpec layer;
  AttentionSpec attention = read_gqa(fields, config.d_model, {});
  attention.qkv_bias = attention.out_bias = fields.optional("attention_bias", false);
  MlpSpec mlp = read_gated_mlp(fields);
  mlp.bias = fields.optional("mlp_bias", false);
  layer.mixer = attention;
  layer.mlp = mlp;
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  config.layers.assign(static_cast<size_t>(layers), layer);
  // Said by some checkpoints, and so in every Llama.
  allow_only(fields, "use_sliding_window", {false});
  fields.ignore({"max_window_layers"});
  for (const bool slides : read_sliding_layers(fields, layers)) {
    HEADLENS_CHECK(ConfigError, !slides,
                   "[{}] key 'layer_types', expected full_attention, got sliding_attention",
                   fields.where());
  }
  return config;
}

json write(const ModelConfig& config) {
  const AttentionSpec& attention = uniform_mixer<AttentionSpec>(config);
  HEADLENS_CHECK(ConfigError, config.layers[0].mlp && attention.rope,
                 "[write_model_config] a llama layer, expected an MLP and rotary positions");
  json out = write_transformer(llama_family(), config);
  out["attention_bias"] = attention.qkv_bias;
  out["mlp_bias"] = config.layers[0].mlp->bias;
  return out;
}

}  // namespace

Family llama_family() {
  return {"llama", "llama", {"LlamaForCausalLM"}, parse, write, {llama_names()}};
}

}  // namespace headlens
