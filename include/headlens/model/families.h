// headlens/model: which checkpoint families are known, and how their files name things.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headlens/model/config.h"

namespace headlens {

/// Where a family keeps its tensors. "{}" in `layer` is the layer's index; the rest is relative to
/// the layer.
struct TensorNames {
  std::string embed;       // "model.embed_tokens"
  std::string layer;       // "model.layers.{}"
  std::string norm1;       // "input_layernorm"
  std::string norm2;       // "post_attention_layernorm"
  std::string attention;   // "self_attn"
  std::string mixer;       // "mamba", "mixer"
  std::string mlp;         // "mlp"
  std::string final_norm;  // "model.norm"
  std::string lm_head;     // "lm_head"
};

/// Reads config.json (transformers 4 and 5 dialects). ConfigError for an unknown architecture
/// (lists the known ones), a missing key, or a key that changes the maths and is not handled.
ModelConfig parse_model_config(std::string_view config_json,
                               std::string_view where = "config.json");
/// Writes a config.json that this library and, where it knows the family, transformers read back.
std::string write_model_config(const ModelConfig& config);
const TensorNames& tensor_names(std::string_view family);
/// Globs of tensors that checkpoints of this config may carry and no forward reads (buffers, a tied
/// lm_head).
std::vector<std::string> ignored_tensors(const ModelConfig& config);
/// Architectures this build loads, e.g. "LlamaForCausalLM".
std::vector<std::string> known_architectures();

}  // namespace headlens
