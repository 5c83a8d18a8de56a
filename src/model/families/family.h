// headlens/model: what a checkpoint family is, and the readers that families share.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "core/json_fields.h"
#include "headlens/model/config.h"
#include "headlens/model/families.h"

namespace headlens {

/// One family: how its config.json is read and written, and what its tensors are called.
struct Family {
  std::string name;                        // "llama"
  std::string model_type;                  // config.json's model_type
  std::vector<std::string> architectures;  // the first is the one that is written
  ModelConfig (*parse)(const JsonFields& json);
  nlohmann::json (*write)(const ModelConfig& config);
  // The first is the one that is written; a checkpoint may use any.
  std::vector<TensorNames> tensors;
};

Family llama_family();
Family mistral_family();
Family qwen2_family();
Family qwen3_family();
Family gemma2_family();
Family phi3_family();
Family olmo2_family();
Family gpt_neox_family();
Family gpt2_family();
Family mamba_family();
Family falcon_mamba_family();
Family mamba2_family();
Family llamba_family();
Family bamba_family();
Family nemotron_h_family();
Family falcon_h1_family();
Family jamba_family();
Family zamba2_family();
Family mamba_native_family();
Family mamba2_native_family();

// --- Reading. Every message names the file and the key. ---

/// A size: an integer from 1 to 2^31 - 1.
int64_t read_size(const JsonFields& json, std::string_view key);
int64_t read_size(const JsonFields& json, std::string_view key, int64_t fallback);
/// Layers that a config may have.
inline constexpr int64_t kMaxLayers = 4096;
/// A number of layers, at most kMaxLayers.
int64_t read_layer_count(const JsonFields& json, std::string_view key);
/// Throws unless `whole` is a multiple of `part`; the keys are for the message.
void check_divides(const JsonFields& json, std::string_view whole_key, int64_t whole,
                   std::string_view part_key, int64_t part);

/// A key that is handled at these values only; it may be absent.
void allow_only(const JsonFields& json, std::string_view key,
                std::initializer_list<nlohmann::json> values);

/// The epsilon of a norm: ConfigError unless finite and not negative.
double read_norm_eps(const JsonFields& json, std::string_view key, double fallback);

/// "silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2"; `fallback` where
/// the key is absent.
Activation read_activation(const JsonFields& json, std::string_view key,
                           std::string_view fallback = "silu");
std::string activation_name(Activation activation);

/// Rotary positions from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (4).
/// ConfigError for an unknown type; `rotary_factor` is the part of d_head that turns.
RopeSpec read_rope(const JsonFields& json, int64_t d_head, double rotary_factor);
/// Adds rope_theta and rope_scaling.
void write_rope(const RopeSpec& rope, nlohmann::json& json);

/// The names of Mamba and Mamba-2, whose two layouts differ in the embedding's.
TensorNames mamba_names(const std::string& embed);

/// `time_step_limit`, [min, max]; an infinite max is stored as 0.
void read_time_step_limit(const JsonFields& json, Mamba2Spec& spec);
void write_time_step_limit(const Mamba2Spec& spec, nlohmann::json& json);

/// dtype (or torch_dtype) and eos_token_id, and marks the bookkeeping keys of transformers as read.
void read_bookkeeping(const JsonFields& json, ModelConfig& config);
/// architectures, model_type, vocab_size, eos_token_id and torch_dtype.
nlohmann::json write_bookkeeping(const Family& family, const ModelConfig& config);

// --- Writing. ---

/// The one mixer spec of a model whose layers are all alike; ConfigError where they are not.
template <typename Spec>
const Spec& uniform_mixer(const ModelConfig& config) {
  const bool found = !config.layers.empty() && config.layers[0].mixer &&
                     std::holds_alternative<Spec>(*config.layers[0].mixer);
  bool alike = found;
  for (const LayerSpec& layer : config.layers) alike = alike && layer == config.layers[0];
  HEADLENS_CHECK(ConfigError, alike,
                 "[write_model_config] layers of family '{}', expected all alike, got others",
                 config.family);
  return std::get<Spec>(*config.layers[0].mixer);
}

}  // namespace headlens
