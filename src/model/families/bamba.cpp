// headlens/model: the Bamba family, a hybrid of Mamba-2 and attention layers.
#include "model/families/transformer.h"

#include <set>

namespace headlens {
namespace {

using nlohmann::json;

constexpr double kRotaryFactor = 0.5;  // fixed in the family: half of each head turns

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model) {
  AttentionSpec spec;
  spec.heads = read_size(fields, "num_attention_heads");
  spec.kv_heads = read_size(fields, "num_key_value_heads", spec.heads);
  spec.d_head = read_size(fields, "head_dim", d_model / spec.heads);
  check_divides(fields, "num_attention_heads", spec.heads, "num_key_value_heads", spec.kv_heads);
  spec.scale = 1 / std::sqrt(static_cast<double>(spec.d_head));
  spec.qkv_bias = fields.optional("attention_bias", false);
  spec.out_bias = spec.qkv_bias;
  spec.rope = read_rope(fields, spec.d_head, kRotaryFactor);
  allow_only(fields, "attn_rotary_emb", {spec.rope->rotary_dim});
  return spec;
}

Mamba2Spec read_mixer(const JsonFields& fields, int64_t d_model, double norm_eps) {
  Mamba2Spec spec;
  const int64_t d_inner = read_size(fields, "mamba_expand", 2) * d_model;
  spec.heads = read_size(fields, "mamba_n_heads");
  check_divides(fields, "mamba_expand * hidden_size", d_inner, "mamba_n_heads", spec.heads);
  spec.d_head = d_inner / spec.heads;
  allow_only(fields, "mamba_d_head", {spec.d_head, "auto"});
  spec.d_state = read_size(fields, "mamba_d_state");
  spec.groups = read_size(fields, "mamba_n_groups", 1);
  check_divides(fields, "mamba_n_heads", spec.heads, "mamba_n_groups", spec.groups);
  spec.d_conv = read_size(fields, "mamba_d_conv", 4);
  spec.chunk = read_size(fields, "mamba_chunk_size", 256);
  spec.conv_bias = fields.optional("mamba_conv_bias", true);
  spec.proj_bias = fields.optional("mamba_proj_bias", false);
  spec.out_bias = spec.proj_bias;
  spec.norm_eps = norm_eps;
  read_time_step_limit(fields, spec);
  return spec;
}

std::set<int64_t> read_attention_layers(const JsonFields& fields, int64_t layers) {
  std::set<int64_t> chosen;
  for (const int64_t layer : fields.optional("attn_layer_indices", std::vector<int64_t>())) {
    HEADLENS_CHECK(ConfigError, 0 <= layer && layer < layers,
                   "[{}] key 'attn_layer_indices', expected 0 to {}, got {}", fields.where(),
                   layers - 1, layer);
    chosen.insert(layer);
  }
  return chosen;
}

/// transformers writes the kinds of layers out as well; they must say the same.
void check_layer_kinds(const JsonFields& fields, const char* key, const std::set<int64_t>& chosen,
                       int64_t layers) {
  const auto kinds = fields.optional(key, std::vector<std::string>());
  if (kinds.empty()) return;
  HEADLENS_CHECK(ConfigError, std::ssize(kinds) == layers,
                 "[{}] key '{}', expected {} layers, got {}", fields.where(), key, layers,
                 kinds.size());
  for (int64_t i = 0; i < layers; ++i) {
    const std::string& kind = kinds[static_cast<size_t>(i)];
    const bool attention = kind == "full_attention" || kind == "attention";
    HEADLENS_CHECK(ConfigError, attention == chosen.contains(i),
                   "[{}] key '{}', expected attention where attn_layer_indices says so, got '{}' "
                   "in layer {}",
                   fields.where(), key, kind, i);
  }
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "rms_norm_eps", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", false);
  allow_only(fields, "hidden_act", {"silu"});  // the MLP's and the convolution's at once

  const AttentionSpec attention = read_attention(fields, config.d_model);
  const Mamba2Spec mamba = read_mixer(fields, config.d_model, config.norm_eps);
  const MlpSpec mlp = {read_size(fields, "intermediate_size"), Activation::Silu, /*gated=*/true,
                       fields.optional("mlp_bias", false)};
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  const std::set<int64_t> with_attention = read_attention_layers(fields, layers);
  for (int64_t i = 0; i < layers; ++i) {
    LayerSpec& layer = config.layers.emplace_back();
    layer.mlp = mlp;
    layer.mixer = mamba;
    if (with_attention.contains(i)) layer.mixer = attention;
  }
  check_layer_kinds(fields, "layer_types", with_attention, layers);
  check_layer_kinds(fields, "layers_block_type", with_attention, layers);
  fields.ignore({"z_loss_coefficient"});
  return config;
}

json write(const ModelConfig& config) {
  const auto& attention = first_mixer<AttentionSpec>(config);
  const auto& mamba = first_mixer<Mamba2Spec>(config);
  HEADLENS_CHECK(ConfigError, config.layers[0].mlp && attention.rope,
                 "[write_model_config] a bamba model, expected MLPs and rotary positions");
  const MlpSpec& mlp = *config.layers[0].mlp;
  std::vector<int64_t> attention_layers;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (layer_kind(config.layers[i]) == LayerKind::Attention) {
      attention_layers.push_back(static_cast<int64_t>(i));
    }
  }
  json out = write_bookkeeping(bamba_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", mlp.d_mlp},
              {"num_hidden_layers", config.layers.size()},
              {"attn_layer_indices", attention_layers},
              {"num_attention_heads", attention.heads},
              {"num_key_value_heads", attention.kv_heads},
              {"attention_bias", attention.qkv_bias},
              {"mlp_bias", mlp.bias},
              {"hidden_act", "silu"},
              {"rms_norm_eps", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings}});
  out.update({{"mamba_n_heads", mamba.heads},
              {"mamba_d_head", mamba.d_head},
              {"mamba_d_state", mamba.d_state},
              {"mamba_n_groups", mamba.groups},
              {"mamba_d_conv", mamba.d_conv},
              {"mamba_expand", mamba.d_inner() / config.d_model},
              {"mamba_chunk_size", mamba.chunk},
              {"mamba_conv_bias", mamba.conv_bias},
              {"mamba_proj_bias", mamba.proj_bias}});
  write_rope(*attention.rope, out);
  write_time_step_limit(mamba, out);
  return out;
}

}  // namespace

Family bamba_family() {
  return {"bamba", "bamba", {"BambaForCausalLM"}, parse, write, {hybrid_names()}};
}

}  // namespace headlens
