// headlens/model: the GPT-2 family: learned positions, projections stored as [in, out].
#include <cmath>

#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

/// GPT-2's own key, or the general one that transformers takes in its place.
int64_t read_either(const JsonFields& fields, const char* own, const char* general) {
  if (!fields.has(own)) return read_size(fields, general);
  const int64_t size = read_size(fields, own);
  allow_only(fields, general, {size});
  return size;
}

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model) {
  AttentionSpec spec;
  spec.heads = spec.kv_heads = read_either(fields, "n_head", "num_attention_heads");
  check_divides(fields, "n_embd", d_model, "n_head", spec.heads);
  spec.d_head = d_model / spec.heads;
  const bool scales = fields.optional("scale_attn_weights", true);
  spec.scale = scales ? 1 / std::sqrt(static_cast<double>(spec.d_head)) : 1;
  spec.qkv_bias = spec.out_bias = true;
  spec.layout = QkvLayout::Fused;
  return spec;
}

MlpSpec read_mlp(const JsonFields& fields, int64_t d_model) {
  const int64_t width = read_size(fields, "n_inner", 4 * d_model);
  return {width, read_activation(fields, "activation_function", "gelu_new"), /*gated=*/false,
          /*bias=*/true};
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_either(fields, "n_embd", "hidden_size");
  config.max_position = read_either(fields, "n_positions", "max_position_embeddings");
  config.norm = NormKind::Layer;
  config.norm_eps = read_norm_eps(fields, "layer_norm_epsilon", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", true);
  const AttentionSpec attention = read_attention(fields, config.d_model);
  const MlpSpec mlp = read_mlp(fields, config.d_model);
  const bool by_layer = fields.optional("scale_attn_by_inverse_layer_idx", false);
  const int64_t layers = fields.has("n_layer") ? read_layer_count(fields, "n_layer")
                                               : read_layer_count(fields, "num_hidden_layers");
  for (int64_t i = 0; i < layers; ++i) {
    LayerSpec layer{attention, mlp};
    if (by_layer) std::get<AttentionSpec>(*layer.mixer).scale /= static_cast<double>(i + 1);
    config.layers.push_back(layer);
  }
  // Dropout, classification heads, and the order of equal operations.
  fields.ignore({"resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_type", "summary_use_proj",
                 "summary_activation", "summary_proj_to_labels", "summary_first_dropout",
                 "reorder_and_upcast_attn", "n_ctx", "predict_special_tokens"});
  return config;
}

json write(const ModelConfig& config) {
  const AttentionSpec& attention = attention_of(config);
  const bool by_layer =
      config.layers.size() > 1 && attention_of(config, 1).scale != attention.scale;
  json out = write_bookkeeping(gpt2_family(), config);
  out.update({{"n_embd", config.d_model},
              {"n_layer", config.layers.size()},
              {"n_head", attention.heads},
              {"n_positions", config.max_position},
              {"n_inner", config.layers[0].mlp->d_mlp},
              {"activation_function", activation_name(config.layers[0].mlp->activation)},
              {"layer_norm_epsilon", config.norm_eps},
              {"scale_attn_weights", attention.scale != 1},
              {"scale_attn_by_inverse_layer_idx", by_layer},
              {"tie_word_embeddings", config.tied_embeddings}});
  return out;
}

/// With "transformer." before the body's names, or, as first published, without.
TensorNames names(const std::string& prefix) {
  TensorNames names;
  names.embed = prefix + "wte";
  names.position_embed = prefix + "wpe";
  names.layer = prefix + "h.{}";
  names.norm1 = "ln_1";
  names.norm2 = "ln_2";
  names.attention = {.scope = "attn", .q = "", .k = "", .v = "", .qkv = "c_attn", .out = "c_proj"};
  names.mlp = {.scope = "mlp", .gate = "", .up = "c_fc", .gate_up = "", .down = "c_proj"};
  names.final_norm = prefix + "ln_f";
  names.transposed = true;
  names.unread = {"*.attn.bias", "*.attn.masked_bias"};
  return names;
}

}  // namespace

Family gpt2_family() {
  return {"gpt2", "gpt2", {"GPT2LMHeadModel"}, parse, write, {names("transformer."), names("")}};
}

}  // namespace headlens
