// headlens/model: the GPT-NeoX family (Pythia): parallel residual, partial rotary, biases.
#include <cmath>

#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

/// `rotary_pct` (transformers 4), or `partial_rotary_factor` in `rope_parameters` (5).
double read_rotary_factor(const JsonFields& fields) {
  const double outer = fields.optional("rotary_pct", 0.25);
  if (!fields.has("rope_parameters")) return outer;
  return fields.object("rope_parameters").optional("partial_rotary_factor", outer);
}

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model) {
  AttentionSpec spec;
  spec.heads = spec.kv_heads = read_size(fields, "num_attention_heads");
  check_divides(fields, "hidden_size", d_model, "num_attention_heads", spec.heads);
  spec.d_head = d_model / spec.heads;
  spec.scale = 1 / std::sqrt(static_cast<double>(spec.d_head));
  spec.qkv_bias = spec.out_bias = fields.optional("attention_bias", true);
  spec.layout = QkvLayout::FusedPerHead;
  spec.rope = read_rope(fields, spec.d_head, read_rotary_factor(fields));
  const double base = fields.optional<double>("rotary_emb_base", spec.rope->theta);
  const bool own =
      fields.has("rope_parameters") && fields.object("rope_parameters").has("rope_theta");
  if (!own) spec.rope->theta = base;
  return spec;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm = NormKind::Layer;
  config.norm_eps = read_norm_eps(fields, "layer_norm_eps", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", false);
  MlpSpec mlp{read_size(fields, "intermediate_size"), read_activation(fields, "hidden_act", "gelu"),
              /*gated=*/false, /*bias=*/true};
  LayerSpec layer{read_attention(fields, config.d_model), mlp};
  if (fields.optional("use_parallel_residual", true)) layer.wiring = Wiring::Parallel;
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  config.layers.assign(static_cast<size_t>(layers), layer);
  fields.ignore({"hidden_dropout", "classifier_dropout"});
  return config;
}

json write(const ModelConfig& config) {
  const AttentionSpec& attention = uniform_mixer<AttentionSpec>(config);
  json out = write_transformer(gpt_neox_family(), config);
  for (const char* key : {"rms_norm_eps", "num_key_value_heads", "head_dim"}) out.erase(key);
  out["layer_norm_eps"] = config.norm_eps;
  out["attention_bias"] = attention.qkv_bias;
  out["use_parallel_residual"] = config.layers[0].wiring == Wiring::Parallel;
  out["rotary_emb_base"] = attention.rope ? attention.rope->theta : 10000;
  out.erase("rope_theta");
  if (attention.rope) {
    out["rotary_pct"] =
        static_cast<double>(attention.rope->rotary_dim) / static_cast<double>(attention.d_head);
  }
  return out;
}

TensorNames names(const char* lm_head) {
  TensorNames names;
  names.embed = "gpt_neox.embed_in";
  names.layer = "gpt_neox.layers.{}";
  names.norm1 = "input_layernorm";
  names.norm2 = "post_attention_layernorm";
  names.attention.scope = "attention";
  names.attention.qkv = "query_key_value";
  names.attention.out = "dense";
  names.mlp.up = "dense_h_to_4h";
  names.mlp.down = "dense_4h_to_h";
  names.final_norm = "gpt_neox.final_layer_norm";
  names.lm_head = lm_head;
  names.unread = {"*.attention.bias", "*.attention.masked_bias"};
  return names;
}

}  // namespace

Family gpt_neox_family() {
  return {"gpt_neox", "gpt_neox", {"GPTNeoXForCausalLM"},
          parse,      write,      {names("embed_out"), names("lm_head")}};
}

}  // namespace headlens
