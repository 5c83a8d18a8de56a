// headlens/examples: records what every attention layer does on one prompt.
#include <ATen/ATen.h>
#include <headlens/hooks/recorder.h>
#include <headlens/model/fresh_weights.h>
#include <headlens/model/language_model.h>

#include <cmath>
#include <cstdio>

using namespace headlens;

/// A Llama of two layers whose four query heads share two key heads, with weights drawn by seed.
LanguageModel tiny_llama() {
  const AttentionSpec attention{.heads = 4,
                                .kv_heads = 2,
                                .d_head = 8,
                                .scale = 1 / std::sqrt(8.0),
                                .rope = RopeSpec{.theta = 10000, .rotary_dim = 8, .scaling = {}}};
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = 64;
  config.d_model = 32;
  config.layers.assign(2, LayerSpec{attention, MlpSpec{.d_mlp = 64}});
  const auto weights = fresh_weights(config, /*seed=*/7, {.std = 0.3, .embed_std = 1});
  return LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, at::kCPU));
}

int main() {
  const LanguageModel model = tiny_llama();
  const Tensor ids = at::arange(3, 11).view({1, 8});

  const std::vector<std::string> patterns = {"blocks.*.attn.hook_{pattern,z}", "logits"};
  std::printf("will take %lld bytes\n",
              static_cast<long long>(recording_bytes(model.config(), patterns, 1, 8)));
  Recorder recorder(model.config(), patterns);
  model.forward(ids, {.tap = &recorder});
  const ActivationCache cache = recorder.take();
  for (const auto& [name, tensor] : cache) {
    std::printf("%-28s", name.c_str());
    for (const int64_t size : tensor.sizes()) std::printf(" %lld", static_cast<long long>(size));
    std::printf("\n");
  }
  std::printf("took %lld bytes\n", static_cast<long long>(cache.bytes()));

  // Where head 2 of layer 1 looks from the last position.
  const Tensor row = cache["blocks.1.attn.hook_pattern"][0][2][7];
  std::printf("from position 7:");
  for (int64_t key = 0; key < 8; ++key) std::printf(" %.2f", row[key].item<double>());
  std::printf("\n");
}
