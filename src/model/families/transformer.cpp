// headlens/model: the readers and writers that families of decoder-only Transformers share.
#include "model/families/transformer.h"

#include <cmath>

namespace headlens {

using nlohmann::json;

namespace {

bool is_null(const JsonFields& fields, std::string_view key) {
  const auto found = fields.value().find(key);
  return found != fields.value().end() && found->is_null();
}

}  // namespace

ModelConfig read_transformer(const JsonFields& fields, const TransformerDefaults& defaults) {
  ModelConfig config;
  read_bookkeeping(fields, config);
  config.vocab_size = read_size(fields, "vocab_size");
  config.d_model = read_size(fields, "hidden_size");
  config.norm_eps = read_norm_eps(fields, "rms_norm_eps", defaults.norm_eps);
  config.tied_embeddings = fields.optional("tie_word_embeddings", defaults.tied);
  return config;
}

AttentionSpec read_heads(const JsonFields& fields, int64_t d_model,
                         const TransformerDefaults& defaults) {
  AttentionSpec spec;
  spec.heads = read_size(fields, "num_attention_heads");
  const bool every_head = is_null(fields, "num_key_value_heads");
  const int64_t kv_heads = every_head ? spec.heads : defaults.kv_heads.value_or(spec.heads);
  spec.kv_heads = read_size(fields, "num_key_value_heads", kv_heads);
  if (!fields.has("head_dim") && !defaults.d_head) {
    check_divides(fields, "hidden_size", d_model, "num_attention_heads", spec.heads);
  }
  spec.d_head = read_size(fields, "head_dim", defaults.d_head.value_or(d_model / spec.heads));
  check_divides(fields, "num_attention_heads", spec.heads, "num_key_value_heads", spec.kv_heads);
  spec.scale = 1 / std::sqrt(static_cast<double>(spec.d_head));
  return spec;
}

AttentionSpec read_gqa(const JsonFields& fields, int64_t d_model,
                       const TransformerDefaults& defaults, double rotary_factor) {
  AttentionSpec spec = read_heads(fields, d_model, defaults);
  spec.rope = read_rope(fields, spec.d_head, rotary_factor);
  return spec;
}

MlpSpec read_gated_mlp(const JsonFields& fields, const char* activation_key,
                       std::string_view activation) {
  MlpSpec spec;
  spec.d_mlp = read_size(fields, "intermediate_size");
  spec.activation = read_activation(fields, activation_key, activation);
  return spec;
}

int64_t read_window(const JsonFields& fields, const char* key, int64_t fallback) {
  if (is_null(fields, key)) return 0;
  return fields.has(key) ? read_size(fields, key) : fallback;
}

std::vector<bool> read_sliding_layers(const JsonFields& fields, int64_t layers) {
  std::vector<bool> sliding;
  for (const std::string& type : fields.optional("layer_types", std::vector<std::string>())) {
    HEADLENS_CHECK(ConfigError, type == "full_attention" || type == "sliding_attention",
                   "[{}] key 'layer_types', expected full_attention or sliding_attention, got '{}'",
                   fields.where(), type);
    sliding.push_back(type == "sliding_attention");
  }
  HEADLENS_CHECK(ConfigError, sliding.empty() || std::ssize(sliding) == layers,
                 "[{}] key 'layer_types', expected {} layers, got {}", fields.where(), layers,
                 sliding.size());
  return sliding;
}

std::vector<int64_t> read_qwen_windows(const JsonFields& fields, int64_t layers) {
  const int64_t window = read_window(fields, "sliding_window", 4096);
  const int64_t first = fields.optional<int64_t>("max_window_layers", 28);
  const bool used = fields.optional("use_sliding_window", false);
  std::vector<bool> sliding = read_sliding_layers(fields, layers);
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  for (int64_t i = 0; i < layers; ++i) {
    const auto layer = static_cast<size_t>(i);
    const bool slides = sliding.empty() ? used && window > 0 && i >= first : sliding[layer];
    HEADLENS_CHECK(ConfigError, !slides || (used && window > 0),
                   "[{}] key 'layer_types', expected full_attention without a sliding window, got "
                   "sliding_attention in layer {}",
                   fields.where(), i);
    if (slides) windows[layer] = window;
  }
  return windows;
}

const AttentionSpec& attention_of(const ModelConfig& config, size_t layer) {
  HEADLENS_CHECK(ConfigError, layer < config.layers.size(),
                 "[write_model_config] layers of family '{}', expected at least one, got none",
                 config.family);
  const LayerSpec& spec = config.layers[layer];
  const bool complete =
      spec.mixer && std::holds_alternative<AttentionSpec>(*spec.mixer) && spec.mlp.has_value();
  HEADLENS_CHECK(ConfigError, complete,
                 "[write_model_config] layer {} of family '{}', expected attention and an MLP, got "
                 "others",
                 layer, config.family);
  return std::get<AttentionSpec>(*spec.mixer);
}

json write_transformer(const Family& family, const ModelConfig& config) {
  const AttentionSpec& attention = attention_of(config);
  const MlpSpec& mlp = *config.layers[0].mlp;
  json out = write_bookkeeping(family, config);
  out.update({{"hidden_size", config.d_model},
              {"intermediate_size", mlp.d_mlp},
              {"num_hidden_layers", config.layers.size()},
              {"num_attention_heads", attention.heads},
              {"num_key_value_heads", attention.kv_heads},
              {"head_dim", attention.d_head},
              {"hidden_act", activation_name(mlp.activation)},
              {"rms_norm_eps", config.norm_eps},
              {"tie_word_embeddings", config.tied_embeddings}});
  if (attention.rope) write_rope(*attention.rope, out);
  return out;
}

void write_windows(const ModelConfig& config, json& out) {
  int64_t window = 0;
  json types = json::array();
  bool alike = true;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const int64_t own = attention_of(config, i).window;
    window = std::max(window, own);
    alike = alike && own == attention_of(config).window;
    types.push_back(own > 0 ? "sliding_attention" : "full_attention");
  }
  out["sliding_window"] = window > 0 ? json(window) : json();
  if (!alike) out["layer_types"] = types;
}

TensorNames llama_names() {
  TensorNames names;
  names.embed = "model.embed_tokens";
  names.layer = "model.layers.{}";
  names.norm1 = "input_layernorm";
  names.norm2 = "post_attention_layernorm";
  names.mixer = "mixer";
  names.final_norm = "model.norm";
  return names;
}

TensorNames hybrid_names() {
  TensorNames names = llama_names();
  names.norm2 = "pre_ff_layernorm";
  names.mixer = "mamba";
  names.mlp.scope = "feed_forward";
  names.final_norm = "model.final_layernorm";
  return names;
}

}  // namespace headlens
