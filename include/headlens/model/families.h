// headlens/model: which checkpoint families are known, and how their files name things.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"

namespace headlens {

/// Where an attention layer's tensors are, below the layer. Of `q`, `k`, `v` and `qkv` those count
/// that the spec's layout asks for.
struct AttentionNames {
  std::string scope = "self_attn";  ///< relative to the layer
  std::string q = "q_proj";         ///< queries
  std::string k = "k_proj";         ///< keys
  std::string v = "v_proj";         ///< values
  std::string qkv = "qkv_proj";     ///< the three in one
  std::string out = "o_proj";       ///< the output projection
};

/// Where an MLP's tensors are, below the layer.
struct MlpNames {
  std::string scope = "mlp";             ///< relative to the layer
  std::string gate = "gate_proj";        ///< the gate
  std::string up = "up_proj";            ///< the only one before `down` in a plain MLP
  std::string gate_up = "gate_up_proj";  ///< the two in one
  std::string down = "down_proj";        ///< back to the residual
};

/// Where a family keeps its tensors. "{}" in `layer` is the layer's index; the rest is relative to
/// the layer.
struct TensorNames {
  std::string embed = {};           ///< "model.embed_tokens"
  std::string position_embed = {};  ///< GPT-2: "transformer.wpe"
  std::string layer = {};           ///< "model.layers.{}"
  std::string norm1 = {};           ///< "input_layernorm"
  std::string norm1_post = {};      ///< of the mixer's output, where a wiring has it
  std::string norm2 = {};           ///< "post_attention_layernorm"
  std::string norm2_post = {};      ///< of the MLP's output, where a wiring has it
  AttentionNames attention = {};    ///< of attention
  std::string mixer = {};           ///< "mamba", "mixer"
  MlpNames mlp = {};                ///< of the MLP
  std::string final_norm = {};      ///< "model.norm"
  std::string lm_head = "lm_head";  ///< the projection to the vocabulary
  bool transposed = false;          ///< projections of attention and MLP are stored as [in, out]
  std::vector<std::string> unread = {};  ///< globs of tensors that checkpoints may carry: buffers
};

/// Reads config.json (transformers 4 and 5 dialects). ConfigError for an unknown architecture
/// (lists the known ones), a missing key, or a key that changes the maths and is not handled.
ModelConfig parse_model_config(std::string_view config_json,
                               std::string_view where = "config.json");
/// Writes a config.json that this library and, where it knows the family, transformers read back.
std::string write_model_config(const ModelConfig& config);
/// The names a family writes.
const TensorNames& tensor_names(std::string_view family);
/// Of the names a family's checkpoints use, those that `weights` has; the first of them where it
/// has none.
const TensorNames& tensor_names(const ModelConfig& config, const WeightScope& weights);
/// Globs of tensors that checkpoints of this config may carry and no forward reads (buffers, a tied
/// lm_head).
std::vector<std::string> ignored_tensors(const ModelConfig& config);
/// The same where the tensors' names are known, of any family.
std::vector<std::string> ignored_tensors(const ModelConfig& config, const TensorNames& names);
/// Whether a family of this name (ModelConfig::family) is built in.
bool is_known_family(std::string_view name);
/// Architectures this build loads, e.g. "LlamaForCausalLM".
std::vector<std::string> known_architectures();

}  // namespace headlens
