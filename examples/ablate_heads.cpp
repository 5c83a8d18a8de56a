// headlens/examples: switches the heads of a Mamba-2 layer off, one by one, at both placements.
#include <ATen/ATen.h>
#include <headlens/core/error.h>
#include <headlens/hooks/hook_set.h>
#include <headlens/model/fresh_weights.h>
#include <headlens/model/language_model.h>

#include <cstdio>

using namespace headlens;

/// Two Mamba-2 layers of four heads, with weights drawn by seed.
LanguageModel tiny_mamba2() {
  const Mamba2Spec mamba2{.heads = 4, .d_head = 16, .d_state = 8, .groups = 2, .d_conv = 4};
  ModelConfig config;
  config.family = "mamba2";
  config.vocab_size = 64;
  config.d_model = 32;
  config.layers.assign(2, LayerSpec{mamba2, {}});
  const auto weights =
      fresh_weights(config, /*seed=*/7, {.std = 0.3, .embed_std = 1, .head_std = 1});
  return LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, at::kCPU));
}

/// Mean change of the last position's logits without one head.
double change(const LanguageModel& model, const Tensor& ids, HeadRef head, Placement placement) {
  HookSet hooks(model.config());
  const auto scope = hooks.scope();
  hooks.add(zero_heads(model.config(), {head}, {.placement = placement}));
  const Tensor logits = model.forward(ids, {.tap = &hooks});
  scope.check_all_fired();
  return (logits - model.forward(ids)).select(1, -1).abs().mean().item<double>();
}

int main() {
  const LanguageModel model = tiny_mamba2();
  const Tensor ids = at::arange(3, 11).view({1, 8});
  std::printf("head  post_norm  pre_norm\n");
  for (int64_t head = 0; head < 4; ++head) {
    std::printf("1.%lld   %9.2f  %8.2f\n", static_cast<long long>(head),
                change(model, ids, {1, head}, Placement::PostNorm),
                change(model, ids, {1, head}, Placement::PreNorm));
  }

  // Two variants in one pass: row 0 of the batch without head 0, row 1 without heads 1 to 3.
  const auto variants =
      zero_variants(model.config(), {{1, {{HeadRef{1, 0}}, {HeadGroup{1, 1, 3}}}}});
  const Tensor both = model.forward(ids.repeat({2, 1}), {.tap = variants.get()});
  variants->check_touched();
  std::printf("variants differ: %s\n", at::allclose(both[0], both[1]) ? "no" : "yes");

  try {
    zero_heads(model.config(), {HeadRef{1, 9}});
  } catch (const HookError& error) {
    std::printf("%s\n", error.what());
  }
}
