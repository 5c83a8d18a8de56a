// headlens/examples: the shapes of the bundled models.
#include "zoo_configs.h"

#include <cmath>
#include <string>

#include "headlens/core/error.h"
#include "headlens/tasks/world.h"

namespace headlens::examples {
namespace {

constexpr int64_t kWidth = 64;
constexpr int64_t kHeadWidth = 16;
constexpr int64_t kMlpWidth = 128;

AttentionSpec attention(int64_t heads, int64_t d_head, int64_t rotary_dim) {
  AttentionSpec spec;
  spec.heads = heads;
  spec.kv_heads = heads / 2;
  spec.d_head = d_head;
  spec.scale = 1 / std::sqrt(static_cast<double>(d_head));
  spec.rope = RopeSpec{.theta = 10000, .rotary_dim = rotary_dim, .scaling = {}};
  return spec;
}

Mamba2Spec mamba2(int64_t d_state = 32) {
  Mamba2Spec spec;
  spec.heads = 8;
  spec.d_head = kHeadWidth;
  spec.d_state = d_state;
  spec.groups = 1;
  spec.d_conv = 4;
  spec.chunk = 64;
  return spec;
}

DiscreteMamba2Spec discrete_mamba2(int64_t d_state = 32) {
  DiscreteMamba2Spec spec;
  spec.v_heads = 4;
  spec.qk_heads = 4;
  spec.d_head = kHeadWidth;
  spec.d_state = d_state;
  spec.d_conv = 4;
  spec.chunk = 64;
  spec.proj_bias = true;  // lets the decay start long (train_zoo.cpp)
  return spec;
}

Mamba1Spec falcon_mamba() {
  Mamba1Spec spec;
  spec.d_inner = 2 * kWidth;
  spec.d_state = 8;
  spec.d_conv = 4;
  spec.dt_rank = 8;
  spec.bcdt_rms_eps = 1e-6;
  return spec;
}

const MlpSpec kMlp{
    .d_mlp = kMlpWidth, .activation = Activation::Silu, .gated = true, .bias = false};

ModelConfig model(const char* family, const char* architecture, std::vector<LayerSpec> layers) {
  ModelConfig config;
  config.family = family;
  config.architecture = architecture;
  config.vocab_size = static_cast<int64_t>(world_vocabulary().size());
  config.d_model = kWidth;
  config.eos_token_ids = {1};
  config.layers = std::move(layers);
  return config;
}

}  // namespace

ModelConfig zoo_config(std::string_view name) {
  if (name == "transformer") {
    return model("llama", "LlamaForCausalLM",
                 std::vector<LayerSpec>(4, {attention(4, kHeadWidth, kHeadWidth), kMlp}));
  }
  if (name == "llamba") {
    return model("llamba", "LlambaLMHeadModel",
                 std::vector<LayerSpec>(4, {discrete_mamba2(), kMlp}));
  }
  if (name == "llamba-distilled") {  // one head for each of the Transformer's
    return model("llamba", "LlambaLMHeadModel",
                 std::vector<LayerSpec>(4, {discrete_mamba2(16), kMlp}));
  }
  if (name == "mamba2") {
    return model("mamba2", "Mamba2ForCausalLM",
                 std::vector<LayerSpec>(4, {mamba2(), std::nullopt}));
  }
  for (const int64_t d_state : {8, 16}) {  // "mamba2" with less state, and nothing else changed
    if (name != "mamba2-state" + std::to_string(d_state)) continue;
    return model("mamba2", "Mamba2ForCausalLM",
                 std::vector<LayerSpec>(4, {mamba2(d_state), std::nullopt}));
  }
  if (name == "falcon-mamba") {
    return model("falcon_mamba", "FalconMambaForCausalLM",
                 std::vector<LayerSpec>(4, {falcon_mamba(), std::nullopt}));
  }
  if (name == "hybrid") {  // attention once and last: it can read what the others gathered
    const LayerSpec ssm{mamba2(), kMlp};
    return model("bamba", "BambaForCausalLM",
                 {ssm, ssm, ssm, {attention(4, kHeadWidth, kHeadWidth / 2), kMlp}});
  }
  throw UsageError(
      "[zoo] model, expected transformer, llamba, llamba-distilled, mamba2, mamba2-state8, "
      "mamba2-state16, falcon-mamba or hybrid, got '" +
      std::string(name) + "'");
}

}  // namespace headlens::examples
