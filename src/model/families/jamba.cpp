// headlens/model: the Jamba family without experts: Mamba-1 or attention, each with an MLP.
#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr TransformerDefaults kDefaults = {.norm_eps = 1e-6, .tied = false, .kv_heads = 8};

Mamba1Spec read_mixer(const JsonFields& fields, const ModelConfig& config) {
  Mamba1Spec spec;
  spec.d_inner = read_size(fields, "mamba_expand", 2) * config.d_model;
  spec.d_state = read_size(fields, "mamba_d_state", 16);
  spec.d_conv = read_size(fields, "mamba_d_conv", 4);
  const json* rank = fields.find("mamba_dt_rank");
  const bool automatic = rank == nullptr || *rank == "auto";
  spec.dt_rank = automatic ? (config.d_model + 15) / 16 : read_size(fields, "mamba_dt_rank");
  spec.conv_bias = fields.optional("mamba_conv_bias", true);
  spec.proj_bias = fields.optional("mamba_proj_bias", false);
  spec.bcdt_rms_eps = config.norm_eps;
  spec.bcdt_norm_weights = true;
  return spec;
}

/// A period and an offset within it: layers offset, offset + period, ...
struct Every {
  int64_t period;
  int64_t offset;
  bool takes(int64_t layer) const { return layer % period == offset; }
};

Every read_every(const JsonFields& fields, const std::string& what, Every fallback) {
  const Every every{read_size(fields, what + "_period", fallback.period),
                    fields.optional(what + "_offset", fallback.offset)};
  HEADLENS_CHECK(ConfigError, 0 <= every.offset && every.offset < every.period,
                 "[{}] key '{}_offset', expected 0 to {}, got {}", fields.where(), what,
                 every.period - 1, every.offset);
  return every;
}

void check_no_experts(const JsonFields& fields, int64_t layers) {
  const int64_t experts = fields.optional<int64_t>("num_experts", 16);
  const Every every = read_every(fields, "expert_layer", {2, 1});
  for (int64_t i = 0; i < layers; ++i) {
    HEADLENS_CHECK(ConfigError, experts == 1 || !every.takes(i),
                   "[{}] key 'num_experts', expected 1 (mixtures of experts are not handled), got "
                   "{} in layer {}",
                   fields.where(), experts, i);
  }
  fields.ignore({"num_experts_per_tok", "router_aux_loss_coef", "output_router_logits"});
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config = read_transformer(fields, kDefaults);
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  check_no_experts(fields, layers);
  const Every attends = read_every(fields, "attn_layer", {8, 4});
  const AttentionSpec attention = read_heads(fields, config.d_model, kDefaults);  // no positions
  const Mamba1Spec mamba = read_mixer(fields, config);
  allow_only(fields, "hidden_act", {"silu"});  // the MLP's and the convolution's at once
  const MlpSpec mlp = read_gated_mlp(fields);
  for (int64_t i = 0; i < layers; ++i) {
    LayerSpec& layer = config.layers.emplace_back();
    layer.mlp = mlp;
    layer.mixer = mamba;
    if (attends.takes(i)) layer.mixer = attention;
  }
  fields.ignore({"use_mamba_kernels", "use_mambapy", "use_associative_scan",
                 "mamba_inner_layernorms", "calc_logits_for_entire_prompt", "layers_block_type",
                 "layer_types", "sliding_window"});
  return config;
}

json write(const ModelConfig& config) {
  const auto& attention = first_mixer<AttentionSpec>(config);
  const auto& mamba = first_mixer<Mamba1Spec>(config);
  HEADLENS_CHECK(ConfigError, config.layers[0].mlp.has_value(),
                 "[write_model_config] a jamba model, expected MLPs, got none");
  std::vector<int64_t> attends;
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    const LayerSpec& layer = config.layers[static_cast<size_t>(i)];
    if (layer_kind(layer) == LayerKind::Attention) attends.push_back(i);
  }
  const int64_t layers = std::ssize(config.layers);
  json out = write_bookkeeping(jamba_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", config.layers[0].mlp->d_mlp},
              {"num_hidden_layers", layers},
              {"num_attention_heads", attention.heads},
              {"num_key_value_heads", attention.kv_heads},
              {"head_dim", attention.d_head},
              {"hidden_act", "silu"},
              {"rms_norm_eps", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings},
              {"num_experts", 1},
              {"attn_layer_period", attends.size() > 1 ? attends[1] - attends[0] : layers},
              {"attn_layer_offset", attends.at(0)}});
  out.update({{"mamba_d_state", mamba.d_state},
              {"mamba_d_conv", mamba.d_conv},
              {"mamba_expand", mamba.d_inner / config.d_model},
              {"mamba_dt_rank", mamba.dt_rank},
              {"mamba_conv_bias", mamba.conv_bias},
              {"mamba_proj_bias", mamba.proj_bias}});
  return out;
}

}  // namespace

Family jamba_family() {
  return {"jamba", "jamba", {"JambaForCausalLM"}, parse, write, {hybrid_names()}};
}

}  // namespace headlens
