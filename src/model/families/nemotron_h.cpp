// headlens/model: the Nemotron-H family, a hybrid whose layers have one part each.
#include "model/families/family.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr std::string_view kMamba = "linear_attention";
constexpr std::string_view kAttention = "full_attention";
constexpr std::string_view kMlp = "mlp";

/// The kinds of the layers: `layers_block_type`, or the older `hybrid_override_pattern`, "M-*-".
std::vector<std::string> read_kinds(const JsonFields& fields) {
  if (!fields.has("hybrid_override_pattern")) {
    return fields.required<std::vector<std::string>>("layers_block_type");
  }
  std::vector<std::string> kinds;
  fields.ignore({"layers_block_type"});  // says the same in words
  for (const char letter : fields.required<std::string>("hybrid_override_pattern")) {
    kinds.emplace_back(letter == 'M' ? kMamba : letter == '*' ? kAttention : kMlp);
    HEADLENS_CHECK(ConfigError, std::string_view("M*-").find(letter) != std::string_view::npos,
                   "[{}] key 'hybrid_override_pattern', expected letters M, * and -, got '{}'",
                   fields.where(), letter);
  }
  return kinds;
}

AttentionSpec read_attention(const JsonFields& fields) {
  AttentionSpec spec;
  spec.heads = read_size(fields, "num_attention_heads");
  spec.kv_heads = read_size(fields, "num_key_value_heads", spec.heads);
  spec.d_head = fields.has("attention_head_dim") ? read_size(fields, "attention_head_dim")
                                                 : read_size(fields, "head_dim", 128);
  allow_only(fields, "head_dim", {spec.d_head});
  check_divides(fields, "num_attention_heads", spec.heads, "num_key_value_heads", spec.kv_heads);
  spec.scale = 1 / std::sqrt(static_cast<double>(spec.d_head));
  allow_only(fields, "attention_bias", {false});
  allow_only(fields, "sliding_window", {});
  return spec;
}

Mamba2Spec read_mixer(const JsonFields& fields, double norm_eps) {
  Mamba2Spec spec;
  spec.heads = read_size(fields, "mamba_num_heads");
  spec.d_head = read_size(fields, "mamba_head_dim");
  spec.d_state = read_size(fields, "ssm_state_size", 128);
  spec.groups = read_size(fields, "n_groups", 8);
  spec.norm_groups = spec.groups;
  check_divides(fields, "mamba_num_heads", spec.heads, "n_groups", spec.groups);
  spec.d_conv = read_size(fields, "conv_kernel", 4);
  spec.chunk = read_size(fields, "chunk_size", 128);
  spec.conv_bias = fields.optional("use_conv_bias", true);
  spec.proj_bias = fields.optional("use_bias", false);
  spec.out_bias = spec.proj_bias;
  spec.norm_eps = norm_eps;
  // transformers clamps dt to [time_step_min, infinity) in this family and never reads the limit.
  spec.dt_min = fields.optional("time_step_min", 1e-3);
  allow_only(fields, "mamba_hidden_act", {"silu"});
  allow_only(fields, "mamba_proj_bias", {spec.proj_bias});
  return spec;
}

void ignore_unused(const JsonFields& fields) {
  fields.ignore({"expand", "time_step_limit", "time_step_max", "time_step_floor", "time_step_rank",
                 "rescale_prenorm_residual", "residual_in_fp32", "hidden_dropout", "rms_norm_eps",
                 "use_mamba_kernels", "mamba_ssm_cache_dtype", "hidden_act"});
  // Experts: read by layers of kind "moe" alone, which are refused by name.
  fields.ignore({"n_routed_experts", "n_shared_experts", "moe_intermediate_size",
                 "moe_shared_expert_intermediate_size", "moe_latent_size",
                 "moe_shared_expert_overlap", "num_experts_per_tok", "routed_scaling_factor",
                 "n_group", "topk_group", "norm_topk_prob", "mtp_layers_block_type",
                 "mtp_hybrid_override_pattern"});
  allow_only(fields, "num_nextn_predict_layers", {0});
}

LayerSpec make_layer(const JsonFields& fields, const std::string& kind, double norm_eps) {
  if (kind == kMamba || kind == "mamba") return {read_mixer(fields, norm_eps), std::nullopt};
  if (kind == kAttention || kind == "attention") return {read_attention(fields), std::nullopt};
  HEADLENS_CHECK(ConfigError, kind == kMlp,
                 "[{}] kind of a layer, expected linear_attention, full_attention or mlp, got '{}'",
                 fields.where(), kind);
  const MlpSpec mlp = {read_size(fields, "intermediate_size"),
                       read_activation(fields, "mlp_hidden_act", "relu2"), /*gated=*/false,
                       fields.optional("mlp_bias", false)};
  return {std::nullopt, mlp};
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "layer_norm_epsilon", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", false);
  const std::vector<std::string> kinds = read_kinds(fields);
  HEADLENS_CHECK(ConfigError, !kinds.empty() && std::ssize(kinds) <= kMaxLayers,
                 "[{}] layers, expected 1 to {}, got {}", fields.where(), kMaxLayers, kinds.size());
  for (const std::string& kind : kinds) {
    config.layers.push_back(make_layer(fields, kind, config.norm_eps));
  }
  allow_only(fields, "num_hidden_layers", {config.layers.size()});
  // Sizes of parts that no layer has are no concern of this model.
  fields.ignore({"num_attention_heads", "num_key_value_heads", "head_dim", "attention_head_dim",
                 "attention_bias", "mamba_num_heads", "mamba_head_dim", "ssm_state_size",
                 "n_groups", "conv_kernel", "chunk_size", "use_conv_bias", "use_bias",
                 "time_step_min", "mamba_hidden_act", "mamba_proj_bias", "intermediate_size",
                 "mlp_hidden_act", "mlp_bias"});
  ignore_unused(fields);
  return config;
}

void write_part(const AttentionSpec& spec, json& out) {
  out.update({{"num_attention_heads", spec.heads},
              {"num_key_value_heads", spec.kv_heads},
              {"head_dim", spec.d_head}});
}

void write_part(const Mamba2Spec& spec, json& out) {
  out.update({{"mamba_num_heads", spec.heads},
              {"mamba_head_dim", spec.d_head},
              {"ssm_state_size", spec.d_state},
              {"n_groups", spec.groups},
              {"conv_kernel", spec.d_conv},
              {"chunk_size", spec.chunk},
              {"use_conv_bias", spec.conv_bias},
              {"use_bias", spec.proj_bias},
              {"time_step_min", spec.dt_min}});
}

void write_part(const Mamba1Spec&, json&) {}
void write_part(const DiscreteMamba2Spec&, json&) {}

json write(const ModelConfig& config) {
  json out = write_bookkeeping(nemotron_h_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"layer_norm_epsilon", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings}});
  for (const LayerSpec& layer : config.layers) {
    const LayerKind kind = layer_kind(layer);
    out["layers_block_type"].push_back(kind == LayerKind::Attention ? kAttention
                                       : kind == LayerKind::Mamba2  ? kMamba
                                                                    : kMlp);
    if (layer.mixer) std::visit([&](const auto& spec) { write_part(spec, out); }, *layer.mixer);
    if (layer.mlp) {
      out["intermediate_size"] = layer.mlp->d_mlp;
      out["mlp_hidden_act"] = activation_name(layer.mlp->activation);
      out["mlp_bias"] = layer.mlp->bias;
    }
  }
  return out;
}

/// transformers 5 calls the body "model" inside, its files "backbone".
TensorNames names(const std::string& body) {
  TensorNames names;
  names.embed = body + ".embeddings";
  names.layer = body + ".layers.{}";
  names.norm1 = "norm";
  names.norm2 = "norm";
  names.attention.scope = "mixer";
  names.mixer = "mixer";
  names.mlp.scope = "mixer";
  names.final_norm = body + ".norm_f";
  return names;
}

}  // namespace

Family nemotron_h_family() {
  return {"nemotron_h", "nemotron_h", {"NemotronHForCausalLM"},
          parse,        write,        {names("backbone"), names("model")}};
}

}  // namespace headlens
