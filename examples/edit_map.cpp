// headlens/examples: hides a part of the prompt from the last position, in attention and SSM layers
// alike.
#include <ATen/ATen.h>
#include <headlens/hooks/hook_set.h>
#include <headlens/hooks/reducers.h>
#include <headlens/model/fresh_weights.h>
#include <headlens/model/language_model.h>

#include <cmath>
#include <cstdio>

using namespace headlens;

/// A hybrid: Mamba-2, attention, Mamba-2, with weights drawn by seed.
LanguageModel tiny_hybrid() {
  const Mamba2Spec mamba2{.heads = 4, .d_head = 16, .d_state = 8, .groups = 2, .d_conv = 4};
  const AttentionSpec attention{.heads = 4,
                                .kv_heads = 2,
                                .d_head = 8,
                                .scale = 1 / std::sqrt(8.0),
                                .rope = RopeSpec{.theta = 10000, .rotary_dim = 4, .scaling = {}}};
  const MlpSpec mlp{.d_mlp = 64};
  ModelConfig config;
  config.family = "bamba";
  config.vocab_size = 64;
  config.d_model = 32;
  config.layers = {{mamba2, mlp}, {attention, mlp}, {mamba2, mlp}};
  const auto weights = fresh_weights(config, /*seed=*/7, {.std = 0.3, .embed_std = 1});
  return LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, at::kCPU));
}

/// What the last position sees of the segment, by layer and head.
void print_mass(const LanguageModel& model, const Tensor& ids, Tap* edits) {
  MapReduceOptions options;
  options.rows = at::full({1}, 7, at::kLong);
  options.segments = at::tensor({-1, -1, 0, 0, 0, -1, -1, -1}, at::kLong);
  options.num_segments = 1;
  MapReducer reducer(model.config(), options);
  TapChain chain({edits, &reducer});
  model.forward(ids, {.tap = &chain});
  for (const int64_t layer : reducer.layers()) {
    const Tensor mass = reducer.stats(layer).segment_mass.flatten();
    std::printf("  layer %lld:", static_cast<long long>(layer));
    for (int64_t h = 0; h < mass.size(0); ++h) std::printf(" %.2f", mass[h].item<double>());
    std::printf("\n");
  }
}

int main() {
  const LanguageModel model = tiny_hybrid();
  const Tensor ids = at::arange(3, 11).view({1, 8});
  const Tensor before = model.forward(ids);
  std::printf("share of tokens 2 to 4 in what position 7 reads, by head\n");
  print_mass(model, ids, nullptr);

  HookSet hooks(model.config());
  {
    const auto scope = hooks.scope();
    MapEdit hide;
    hide.rows = mask_of_positions(8, {-1});
    hide.keys = mask_of_segments(8, {{2, 4}});
    hooks.add(std::make_shared<MapIntervention>(
        model.config(), std::vector<LayerMapEdit>{{0, hide}, {1, hide}, {2, hide}}));
    std::printf("with tokens 2 to 4 hidden from position 7\n");
    print_mass(model, ids, &hooks);
    const Tensor change = (model.forward(ids, {.tap = &hooks}) - before).abs().amax(-1)[0];
    std::printf("largest change of a logit, by position:");
    for (int64_t pos = 0; pos < 8; ++pos) {
      std::printf(" %s", change[pos].item<double>() > 1e-3 ? "some" : "none");
    }
    std::printf("\n");
    scope.check_all_fired();  // an error if a layer was not reached or nothing was hidden
  }
  const bool restored = at::equal(model.forward(ids, {.tap = &hooks}), before);
  std::printf("after the scope: %s\n", restored ? "as before" : "changed");
}
