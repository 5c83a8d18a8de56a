// headlens/model: the Falcon-H1 family: Mamba-2 and attention side by side in every layer.
#include <cmath>

#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kDefaults = {.norm_eps = 1e-5, .tied = false, .kv_heads = 8};

double read_multiplier(const JsonFields& fields, const char* key) {
  const double factor = fields.optional(key, 1.0);
  HEADLENS_CHECK(ConfigError, std::isfinite(factor), "[{}] key '{}', expected a finite number",
                 fields.where(), key);
  return factor;
}

std::vector<double> read_multipliers(const JsonFields& fields, const char* key, size_t count) {
  auto factors = fields.optional(key, std::vector<double>(count, 1.0));
  HEADLENS_CHECK(ConfigError, factors.size() == count, "[{}] key '{}', expected {} numbers, got {}",
                 fields.where(), key, count, factors.size());
  return factors;
}

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model) {
  AttentionSpec spec = read_gqa(fields, d_model, kDefaults);
  spec.qkv_bias = spec.out_bias = fields.optional("attention_bias", false);
  spec.in_scale = read_multiplier(fields, "attention_in_multiplier");
  spec.key_scale = read_multiplier(fields, "key_multiplier");
  spec.out_scale = read_multiplier(fields, "attention_out_multiplier");
  return spec;
}

/// `mamba_norm_before_gate` counts only where there is a norm.
GatedNorm read_gated_norm(const JsonFields& fields) {
  const bool norm_first = fields.optional("mamba_norm_before_gate", true);
  if (!fields.optional("mamba_rms_norm", false)) return GatedNorm::GateOnly;
  return norm_first ? GatedNorm::NormFirst : GatedNorm::GateFirst;
}

Mamba2Spec read_mixer(const JsonFields& fields, const ModelConfig& config) {
  Mamba2Spec spec;
  const int64_t expand = read_size(fields, "mamba_expand", 2);
  const bool by_expand = !fields.has("mamba_d_ssm") && fields.value().contains("mamba_d_ssm");
  const int64_t fallback = by_expand ? expand * config.d_model : 1024;
  const int64_t d_inner = read_size(fields, "mamba_d_ssm", fallback);
  spec.heads = read_size(fields, "mamba_n_heads", 128);
  check_divides(fields, "mamba_d_ssm", d_inner, "mamba_n_heads", spec.heads);
  spec.d_head = d_inner / spec.heads;
  allow_only(fields, "mamba_d_head", {spec.d_head, "auto"});
  spec.d_state = read_size(fields, "mamba_d_state", 256);
  spec.groups = spec.norm_groups = read_size(fields, "mamba_n_groups", 1);
  check_divides(fields, "mamba_n_heads", spec.heads, "mamba_n_groups", spec.groups);
  spec.d_conv = read_size(fields, "mamba_d_conv", 4);
  spec.chunk = read_size(fields, "mamba_chunk_size", 256);
  spec.conv_bias = fields.optional("mamba_conv_bias", true);
  spec.proj_bias = fields.optional("mamba_proj_bias", false);
  spec.out_bias = fields.optional("projectors_bias", false);
  spec.norm_eps = config.norm_eps;
  spec.gated_norm = read_gated_norm(fields);
  spec.in_scale = read_multiplier(fields, "ssm_in_multiplier");
  spec.out_scale = read_multiplier(fields, "ssm_out_multiplier");
  spec.part_scales = read_multipliers(fields, "ssm_multipliers", 5);
  read_time_step_limit(fields, spec);
  return spec;
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kDefaults);
  config.embed_scale = read_multiplier(fields, "embedding_multiplier");
  config.logit_scale = read_multiplier(fields, "lm_head_multiplier");
  allow_only(fields, "hidden_act", {"silu"});  // the MLP's and the convolution's at once
  MlpSpec mlp = read_gated_mlp(fields);
  mlp.bias = fields.optional("mlp_bias", false);
  const std::vector<double> factors = read_multipliers(fields, "mlp_multipliers", 2);
  mlp.gate_scale = factors[0];
  mlp.out_scale = factors[1];
  LayerSpec layer{read_mixer(fields, config), mlp, Wiring::ParallelMixers};
  layer.attention = read_attention(fields, config.d_model);
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  config.layers.assign(static_cast<size_t>(layers), layer);
  // mamba_use_mlp and the number of channels are said and never read by transformers.
  allow_only(fields, "mamba_use_mlp", {true});
  fields.ignore({"mlp_expansion_factor", "layer_types", "layers_block_type", "attn_layer_indices",
                 "use_mamba_kernels"});
  return config;
}

void write_mixer(const Mamba2Spec& mamba, json& out) {
  out.update({{"mamba_d_ssm", mamba.d_inner()},
              {"mamba_n_heads", mamba.heads},
              {"mamba_d_head", mamba.d_head},
              {"mamba_d_state", mamba.d_state},
              {"mamba_n_groups", mamba.groups},
              {"mamba_d_conv", mamba.d_conv},
              {"mamba_chunk_size", mamba.chunk},
              {"mamba_conv_bias", mamba.conv_bias},
              {"mamba_proj_bias", mamba.proj_bias},
              {"projectors_bias", mamba.out_bias},
              {"mamba_rms_norm", mamba.gated_norm != GatedNorm::GateOnly},
              {"mamba_norm_before_gate", mamba.gated_norm == GatedNorm::NormFirst},
              {"ssm_in_multiplier", mamba.in_scale},
              {"ssm_out_multiplier", mamba.out_scale},
              {"ssm_multipliers", mamba.part_scales}});
  write_time_step_limit(mamba, out);
}

json write(const ModelConfig& config) {
  const auto& mamba = uniform_mixer<Mamba2Spec>(config);
  const LayerSpec& layer = config.layers[0];
  HEADLENS_CHECK(ConfigError, layer.attention && layer.attention->rope && layer.mlp,
                 "[write_model_config] a falcon_h1 layer, expected attention and an MLP");
  json out = write_bookkeeping(falcon_h1_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", layer.mlp->d_mlp},
              {"num_hidden_layers", config.layers.size()},
              {"num_attention_heads", layer.attention->heads},
              {"num_key_value_heads", layer.attention->kv_heads},
              {"head_dim", layer.attention->d_head},
              {"attention_bias", layer.attention->qkv_bias},
              {"mlp_bias", layer.mlp->bias},
              {"hidden_act", "silu"},
              {"rms_norm_eps", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings},
              {"embedding_multiplier", config.embed_scale},
              {"lm_head_multiplier", config.logit_scale},
              {"attention_in_multiplier", layer.attention->in_scale},
              {"key_multiplier", layer.attention->key_scale},
              {"attention_out_multiplier", layer.attention->out_scale},
              {"mlp_multipliers", {layer.mlp->gate_scale, layer.mlp->out_scale}}});
  write_rope(*layer.attention->rope, out);
  write_mixer(mamba, out);
  return out;
}

}  // namespace

Family falcon_h1_family() {
  return {"falcon_h1", "falcon_h1", {"FalconH1ForCausalLM"}, parse, write, {hybrid_names()}};
}

}  // namespace headlens
