// headlens/model: the Llama family.
#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model) {
  AttentionSpec spec;
  spec.heads = read_size(fields, "num_attention_heads");
  spec.kv_heads = read_size(fields, "num_key_value_heads", spec.heads);
  if (!fields.has("head_dim")) {
    check_divides(fields, "hidden_size", d_model, "num_attention_heads", spec.heads);
  }
  spec.d_head = read_size(fields, "head_dim", d_model / spec.heads);
  check_divides(fields, "num_attention_heads", spec.heads, "num_key_value_heads", spec.kv_heads);
  spec.scale = 1 / std::sqrt(static_cast<double>(spec.d_head));
  spec.qkv_bias = fields.optional("attention_bias", false);
  spec.out_bias = spec.qkv_bias;
  spec.rope = read_rope(fields, spec.d_head, /*rotary_factor=*/1);
  return spec;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "rms_norm_eps", 1e-6);
  config.tied_embeddings = fields.optional("tie_word_embeddings", false);

  LayerSpec layer;
  layer.mixer = read_attention(fields, config.d_model);
  layer.mlp = MlpSpec{read_size(fields, "intermediate_size"), read_activation(fields, "hidden_act"),
                      /*gated=*/true, fields.optional("mlp_bias", false)};
  config.layers.assign(static_cast<size_t>(read_layer_count(fields, "num_hidden_layers")), layer);
  return config;
}

json write(const ModelConfig& config) {
  const AttentionSpec& attention = uniform_mixer<AttentionSpec>(config);
  const std::optional<MlpSpec>& mlp = config.layers[0].mlp;
  HEADLENS_CHECK(ConfigError, mlp && attention.rope,
                 "[write_model_config] a llama layer, expected an MLP and rotary positions");
  json out = write_bookkeeping(llama_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", mlp->d_mlp},
              {"num_hidden_layers", config.layers.size()},
              {"num_attention_heads", attention.heads},
              {"num_key_value_heads", attention.kv_heads},
              {"head_dim", attention.d_head},
              {"hidden_act", activation_name(mlp->activation)},
              {"rms_norm_eps", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings},
              {"attention_bias", attention.qkv_bias},
              {"mlp_bias", mlp->bias}});
  write_rope(*attention.rope, out);
  return out;
}

}  // namespace

Family llama_family() {
  return {"llama",
          "llama",
          {"LlamaForCausalLM"},
          parse,
          write,
          {.embed = "model.embed_tokens",
           .layer = "model.layers.{}",
           .norm1 = "input_layernorm",
           .norm2 = "post_attention_layernorm",
           .attention = "self_attn",
           .mixer = "mixer",
           .mlp = "mlp",
           .final_norm = "model.norm",
           .lm_head = "lm_head"}};
}

}  // namespace headlens
