// headlens/tests: random models of published shapes, drawn on the device they run on.
#pragma once

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <string>

#include "bench/bench_tools.h"
#include "headlens/model/families.h"
#include "headlens/model/language_model.h"

namespace headlens::bench {

/// Llama-3.1-8B.
inline ModelConfig llama_8b(const Flags& flags) {
  const int64_t kv_heads = flags.scaled(8, 1), d_head = 2 * flags.scaled(64, 8);
  const std::string json = fmt::format(
      R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": {},
           "hidden_size": {}, "intermediate_size": {}, "num_hidden_layers": {},
           "num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {},
           "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
           "rope_scaling": {{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
             "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}}})",
      flags.scaled(128256, 128), 4 * kv_heads * d_head, flags.scaled(14336, 32),
      flags.scaled(32, 4), 4 * kv_heads, kv_heads, d_head);
  return parse_model_config(json, "llama_8b");
}

/// Eight layers of Mamba-2 of width 4096: 128 heads of 64, state 128, one group.
inline ModelConfig mamba2_8_layers(const Flags& flags) {
  const int64_t heads = flags.scaled(128, 4);
  const std::string json = fmt::format(
      R"({{"architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "vocab_size": {},
           "hidden_size": {}, "num_heads": {}, "head_dim": 64, "state_size": 128, "n_groups": 1,
           "expand": 2, "conv_kernel": 4, "num_hidden_layers": 8, "chunk_size": 256,
           "use_conv_bias": true, "use_bias": false, "rms_norm": true,
           "layer_norm_epsilon": 1e-5, "residual_in_fp32": true, "tie_word_embeddings": false}})",
      flags.scaled(32768, 128), heads * 32, heads);
  return parse_model_config(json, "mamba2_8_layers");
}

inline LanguageModel random_model(const ModelConfig& config, const Flags& flags) {
  at::manual_seed(1);
  const auto options = at::TensorOptions().device(flags.device).dtype(flags.dtype);
  const auto draw = [options](const std::string& name, at::IntArrayRef shape) {
    const bool is_one = name.ends_with("norm.weight") || name.ends_with(".D");
    if (is_one) return at::ones(shape, options);
    if (name.ends_with("A_log")) return at::empty(shape, options).uniform_(0, 2.7);
    if (name.ends_with("dt_bias")) return at::empty(shape, options).uniform_(-6.9, -2.3);
    return at::empty(shape, options).normal_(0, 0.02);
  };
  return LanguageModel::build(config, WeightScope::from_generator(draw, flags.dtype, flags.device));
}

/// Weights that a token is multiplied with: all but the embedding table.
inline double multiplied(const LanguageModel& model) {
  const double all = static_cast<double>(model.weight_bytes() / element_size(model.dtype()));
  return all - static_cast<double>(model.config().vocab_size * model.config().d_model);
}

}  // namespace headlens::bench
