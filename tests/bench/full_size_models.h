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

/// Mamba-2 of width 4096: 128 heads of 64, state 128.
inline ModelConfig mamba2_of(const Flags& flags, int64_t layers, int64_t groups, int64_t vocab) {
  const int64_t heads = flags.scaled(128, 2 * groups);
  const std::string json = fmt::format(
      R"({{"architectures": ["Mamba2ForCausalLM"], "model_type": "mamba2", "vocab_size": {},
           "hidden_size": {}, "num_heads": {}, "head_dim": 64, "state_size": 128, "n_groups": {},
           "expand": 2, "conv_kernel": 4, "num_hidden_layers": {}, "chunk_size": 256,
           "use_conv_bias": true, "use_bias": false, "rms_norm": true,
           "layer_norm_epsilon": 1e-5, "residual_in_fp32": true, "tie_word_embeddings": false}})",
      vocab, heads * 32, heads, groups, layers);
  return parse_model_config(json, "mamba2");
}
inline ModelConfig mamba2_8_layers(const Flags& flags) {
  return mamba2_of(flags, 8, 1, flags.scaled(32768, 128));
}
/// Mamba-Codestral-7B's shape: 64 layers, 8 groups.
inline ModelConfig mamba2_8b(const Flags& flags) {
  return mamba2_of(flags, flags.scaled(64, 3), 8, flags.scaled(32768, 128));
}

/// Falcon-Mamba-7B.
inline ModelConfig falcon_mamba_7b(const Flags& flags) {
  const int64_t width = flags.scaled(4096, 32);
  const std::string json = fmt::format(
      R"({{"architectures": ["FalconMambaForCausalLM"], "model_type": "falcon_mamba", "vocab_size": {},
           "hidden_size": {}, "intermediate_size": {}, "num_hidden_layers": {}, "state_size": 16,
           "time_step_rank": {}, "conv_kernel": 4, "expand": 2, "use_conv_bias": true,
           "use_bias": false, "mixer_rms_eps": 1e-6, "layer_norm_epsilon": 1e-5,
           "residual_in_fp32": true, "tie_word_embeddings": false}})",
      flags.scaled(65024, 128), width, 2 * width, flags.scaled(64, 3),
      std::max<int64_t>(width / 16, 4));
  return parse_model_config(json, "falcon_mamba");
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
