// headlens/model: the Phi-3 family: fused projections, LongRoPE, partial rotary.
#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kDefaults = {.norm_eps = 1e-5};

/// The part of each head that turns: in `rope_parameters` or `rope_scaling` first, then at the top.
double read_rotary_factor(const JsonFields& fields) {
  const double outer = fields.optional("partial_rotary_factor", 1.0);
  const char* key = fields.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const double factor =
      fields.has(key) ? fields.object(key).optional("partial_rotary_factor", outer) : outer;
  HEADLENS_CHECK(ConfigError, factor > 0 && factor <= 1,
                 "[{}] key 'partial_rotary_factor', expected more than 0 and at most 1, got {}",
                 fields.where(), factor);
  return factor;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kDefaults);
  AttentionSpec attention = read_gqa(fields, config.d_model, kDefaults, read_rotary_factor(fields));
  attention.layout = QkvLayout::Fused;
  attention.window = read_window(fields, "sliding_window", 0);
  MlpSpec mlp = read_gated_mlp(fields);
  mlp.fused = true;
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  config.layers.assign(static_cast<size_t>(layers), LayerSpec{attention, mlp});
  for (const char* bias : {"attention_bias", "mlp_bias", "lm_head_bias"}) {
    allow_only(fields, bias, {false});
  }
  allow_only(fields, "full_attn_mod", {1});  // Phi-4-mini says both, and means nothing by them
  allow_only(fields, "interpolate_factor", {1});
  fields.ignore({"embd_pdrop", "resid_pdrop", "original_max_position_embeddings"});
  return config;
}

json write(const ModelConfig& config) {
  const AttentionSpec& attention = uniform_mixer<AttentionSpec>(config);
  json out = write_transformer(phi3_family(), config);
  write_windows(config, out);
  if (attention.rope) {
    out["partial_rotary_factor"] =
        static_cast<double>(attention.rope->rotary_dim) / static_cast<double>(attention.d_head);
  }
  return out;
}

}  // namespace

Family phi3_family() {
  return {"phi3", "phi3", {"Phi3ForCausalLM"}, parse, write, {llama_names()}};
}

}  // namespace headlens
