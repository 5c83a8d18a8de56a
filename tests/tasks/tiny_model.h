// headlens/tests: a tiny fresh model for the task tests.
#pragma once

#include <cstdint>

#include "headlens/model/fresh_weights.h"
#include "headlens/model/language_model.h"

namespace headlens::testing {

/// Two blocks, attention then Mamba-2, float64: rounding then cannot hide a mistake in scoring.
inline LanguageModel tiny_model(int64_t vocab_size, uint64_t seed = 5) {
  ModelConfig config;
  config.family = "bamba";
  config.architecture = "BambaForCausalLM";
  config.vocab_size = vocab_size;
  config.d_model = 16;
  AttentionSpec attention;
  attention.heads = 4;
  attention.kv_heads = 2;
  attention.d_head = 4;
  attention.scale = 0.5;
  attention.rope = RopeSpec{10000, 2, {}};
  Mamba2Spec mamba;
  mamba.heads = 4;
  mamba.d_head = 8;
  mamba.d_state = 4;
  mamba.d_conv = 4;
  MlpSpec mlp;
  mlp.d_mlp = 16;
  config.layers = {{attention, mlp}, {mamba, mlp}};
  InitOptions wide;  // far from the uniform distribution
  wide.std = 0.4;
  wide.embed_std = wide.head_std = 0.8;
  auto weights = fresh_weights(config, seed, wide);
  return LanguageModel::build(config,
                              WeightScope::from_map(std::move(weights), at::kDouble, at::kCPU));
}

}  // namespace headlens::testing
