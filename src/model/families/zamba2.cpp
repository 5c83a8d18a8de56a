// headlens/model: the Zamba2 family: Mamba-2 layers, some behind a shared Transformer block.
#include <cmath>

#include "model/families/transformer.h"

namespace headlens {
namespace {

using nlohmann::json;

constexpr double kGatedNormEps = 1e-5;  // fixed in the family

Mamba2Spec read_mixer(const JsonFields& fields, int64_t d_model) {
  Mamba2Spec spec;
  const int64_t d_inner = read_size(fields, "mamba_expand", 2) * d_model;
  spec.heads = read_size(fields, "n_mamba_heads", 8);
  check_divides(fields, "mamba_expand * hidden_size", d_inner, "n_mamba_heads", spec.heads);
  spec.d_head = d_inner / spec.heads;
  allow_only(fields, "mamba_headdim", {spec.d_head});
  spec.d_state = read_size(fields, "mamba_d_state", 64);
  spec.groups = spec.norm_groups = read_size(fields, "mamba_ngroups", 1);
  check_divides(fields, "n_mamba_heads", spec.heads, "mamba_ngroups", spec.groups);
  spec.d_conv = read_size(fields, "mamba_d_conv", 4);
  spec.chunk = read_size(fields, "chunk_size", 256);
  spec.conv_bias = true;  // use_conv_bias is stored and never read
  spec.proj_bias = spec.out_bias = fields.optional("add_bias_linear", false);
  spec.norm_eps = kGatedNormEps;
  // transformers clamps dt to [time_step_min, infinity) in this family and never reads the limit.
  spec.dt_min = fields.optional("time_step_min", 1e-3);
  return spec;
}

AttentionSpec read_attention(const JsonFields& fields, int64_t d_model, int64_t rank) {
  AttentionSpec spec;
  spec.d_in = 2 * d_model;
  spec.heads = read_size(fields, "num_attention_heads");
  check_divides(fields, "2 * hidden_size", spec.d_in, "num_attention_heads", spec.heads);
  spec.d_head = spec.d_in / spec.heads;
  allow_only(fields, "attention_head_dim", {spec.d_head});
  allow_only(fields, "attention_hidden_size", {spec.d_in});
  allow_only(fields, "head_dim", {spec.d_head});
  spec.kv_heads = read_size(fields, "num_key_value_heads", spec.heads);
  check_divides(fields, "num_attention_heads", spec.heads, "num_key_value_heads", spec.kv_heads);
  spec.scale = 1 / std::sqrt(static_cast<double>(spec.d_head) / 2);
  if (fields.optional("use_shared_attention_adapter", false)) spec.adapter_rank = rank;
  const RopeSpec rope = read_rope(fields, spec.d_head, /*rotary_factor=*/1);
  if (fields.optional("use_mem_rope", false)) spec.rope = rope;
  fields.ignore({"use_long_context"});  // changes a length that no forward reads
  return spec;
}

MlpSpec read_mlp(const JsonFields& fields, int64_t d_model, int64_t rank) {
  MlpSpec spec;
  spec.d_mlp = read_size(fields, "intermediate_size", 4 * d_model);
  spec.activation = read_activation(fields, "hidden_act", "gelu");
  spec.fused = true;
  spec.bias = fields.optional("add_bias_linear", false);
  spec.adapter_rank = rank;
  allow_only(fields, "use_shared_mlp_adapter", {true});
  return spec;
}

/// True for layers behind a shared block; by `layers_block_type` or `hybrid_layer_ids`.
std::vector<bool> read_hybrid_layers(const JsonFields& fields, int64_t layers) {
  std::vector<bool> hybrid;
  const char* key = fields.has("layers_block_type") ? "layers_block_type" : "layer_types";
  for (const std::string& kind : fields.optional(key, std::vector<std::string>())) {
    const bool known = kind == "mamba" || kind == "linear_attention" || kind == "hybrid";
    HEADLENS_CHECK(ConfigError, known, "[{}] key '{}', expected mamba or hybrid, got '{}'",
                   fields.where(), key, kind);
    hybrid.push_back(kind == "hybrid");
  }
  std::vector<bool> by_id(static_cast<size_t>(layers), false);
  for (const int64_t id : fields.optional("hybrid_layer_ids", std::vector<int64_t>())) {
    HEADLENS_CHECK(ConfigError, 0 <= id && id < layers,
                   "[{}] key 'hybrid_layer_ids', expected 0 to {}, got {}", fields.where(),
                   layers - 1, id);
    by_id[static_cast<size_t>(id)] = true;
  }
  if (hybrid.empty()) {
    HEADLENS_CHECK(ConfigError, fields.has("hybrid_layer_ids"),
                   "[{}] key 'layers_block_type', expected the kinds of {} layers, got none",
                   fields.where(), layers);
    return by_id;
  }
  HEADLENS_CHECK(ConfigError, std::ssize(hybrid) == layers,
                 "[{}] key '{}', expected {} layers, got {}", fields.where(), key, layers,
                 hybrid.size());
  HEADLENS_CHECK(ConfigError, !fields.has("hybrid_layer_ids") || by_id == hybrid,
                 "[{}] key 'hybrid_layer_ids', expected the hybrid layers of '{}', got others",
                 fields.where(), key);
  return hybrid;
}

void ignore_unused(const JsonFields& fields) {
  fields.ignore({"time_step_max", "time_step_floor", "time_step_limit", "use_conv_bias",
                 "use_mamba_kernels", "use_mem_eff_path", "kv_channels", "num_query_groups",
                 "ffn_hidden_size", "mamba_dt_rank", "lora_rank", "vocab_parallel"});
}

ModelConfig parse(const JsonFields& fields) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "rms_norm_eps", 1e-5);
  config.tied_embeddings = fields.optional("tie_word_embeddings", true);
  const int64_t rank = read_size(fields, "adapter_rank", 128);
  const LayerSpec plain{read_mixer(fields, config.d_model), std::nullopt};
  LayerSpec hybrid{plain.mixer, read_mlp(fields, config.d_model, rank), Wiring::SharedBlock};
  hybrid.attention = read_attention(fields, config.d_model, rank);
  const int64_t blocks = read_size(fields, "num_mem_blocks", 1);
  std::vector<int64_t> owners;  // the first layers that use each shared block
  const int64_t layers = read_layer_count(fields, "num_hidden_layers");
  for (const bool is_hybrid : read_hybrid_layers(fields, layers)) {
    config.layers.push_back(is_hybrid ? hybrid : plain);
    if (!is_hybrid) continue;
    LayerSpec& layer = config.layers.back();
    if (std::ssize(owners) < blocks) owners.push_back(std::ssize(config.layers) - 1);
    // transformers ties the blocks together with the embedding, or neither.
    layer.shared_from = config.tied_embeddings
                            ? owners[static_cast<size_t>(hybrid.shared_use % blocks)]
                            : std::ssize(config.layers) - 1;
    layer.shared_use = hybrid.shared_use++;
  }
  ignore_unused(fields);
  return config;
}

json write(const ModelConfig& config) {
  const auto& mamba = first_mixer<Mamba2Spec>(config);
  const LayerSpec* hybrid = nullptr;
  std::vector<std::string> kinds;
  int64_t blocks = 1;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerSpec& layer = config.layers[i];
    const bool shared = layer.wiring == Wiring::SharedBlock;
    kinds.emplace_back(shared ? "hybrid" : "mamba");
    if (!shared) continue;
    hybrid = &layer;
    if (layer.shared_from == static_cast<int64_t>(i)) blocks = layer.shared_use + 1;
  }
  HEADLENS_CHECK(ConfigError, hybrid != nullptr && hybrid->attention && hybrid->mlp,
                 "[write_model_config] a zamba2 model, expected a shared block, got none");
  const AttentionSpec& attention = *hybrid->attention;
  json out = write_bookkeeping(zamba2_family(), config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", hybrid->mlp->d_mlp},
              {"num_hidden_layers", config.layers.size()},
              {"layers_block_type", kinds},
              {"num_mem_blocks", blocks},
              {"num_attention_heads", attention.heads},
              {"num_key_value_heads", attention.kv_heads},
              {"hidden_act", activation_name(hybrid->mlp->activation)},
              {"rms_norm_eps", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings},
              {"add_bias_linear", hybrid->mlp->bias},
              {"adapter_rank", hybrid->mlp->adapter_rank},
              {"use_shared_attention_adapter", attention.adapter_rank > 0},
              {"use_mem_rope", attention.rope.has_value()}});
  if (attention.rope) write_rope(*attention.rope, out);
  out.update({{"mamba_expand", mamba.d_inner() / config.d_model},
              {"n_mamba_heads", mamba.heads},
              {"mamba_d_state", mamba.d_state},
              {"mamba_ngroups", mamba.groups},
              {"mamba_d_conv", mamba.d_conv},
              {"chunk_size", mamba.chunk},
              {"time_step_min", mamba.dt_min}});
  return out;
}

}  // namespace

Family zamba2_family() {
  return {"zamba2", "zamba2", {"Zamba2ForCausalLM"}, parse, write, {hybrid_names()}};
}

}  // namespace headlens
