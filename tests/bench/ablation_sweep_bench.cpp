// headlens/bench: every head of a small model cut: the sweep, one at a time, and the maps.
#include <ATen/ATen.h>
#include <benchmark/benchmark.h>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/map_figures.h"
#include "headlens/model/fresh_weights.h"
#include "headlens/tasks/objective.h"

namespace headlens {
namespace {

constexpr int64_t kVocab = 2000, kPairs = 8, kExamples = 128;

/// Six layers of width 128, of the size of the bundled models.
LanguageModel small_model(const std::string& family, const MixerSpec& mixer, bool with_mlp) {
  ModelConfig config;
  config.family = family;
  config.vocab_size = kVocab;
  config.d_model = 128;
  LayerSpec layer{mixer, {}};
  if (with_mlp) layer.mlp = MlpSpec{256, Activation::Silu, true, false};
  config.layers.assign(6, layer);
  return LanguageModel::build(
      config, WeightScope::from_map(fresh_weights(config, 1), at::kFloat, at::kCPU));
}

LanguageModel model_of(int64_t kind) {
  if (kind == 0) {
    AttentionSpec attention{8, 4, 16, 0.25, false, false, RopeSpec{10000, 16, {}}};
    return small_model("llama", attention, true);
  }
  if (kind == 1) {
    Mamba2Spec mamba;
    mamba.heads = 8;
    mamba.d_head = 32;
    mamba.d_state = 32;
    mamba.d_conv = 4;
    return small_model("mamba2", mamba, false);
  }
  Mamba1Spec mamba;
  mamba.d_inner = 256;
  mamba.d_state = 16;
  mamba.d_conv = 4;
  mamba.dt_rank = 8;
  return small_model("mamba", mamba, false);
}

/// Dictionaries of "key : value ;" lines, a key at the end, every value a choice.
std::unique_ptr<Objective> dictionary_task() {
  std::vector<TokenizedExample> examples;
  for (int64_t i = 0; i < kExamples; ++i) {
    TokenizedExample example;
    for (int64_t pair = 0; pair < kPairs; ++pair) {
      const int64_t key = 10 + (i * 31 + pair * 97) % 900,
                    value = 1000 + (i * 17 + pair * 89) % 900;
      const int64_t start = std::ssize(example.prompt_ids);
      example.prompt_ids.insert(example.prompt_ids.end(), {key, 1, value, 2});
      example.segments.push_back({start, start + 3});
      example.choice_ids.push_back({value});
    }
    example.answer = i % kPairs;
    const auto asked = static_cast<size_t>(4 * example.answer);
    example.prompt_ids.insert(example.prompt_ids.end(), {example.prompt_ids[asked], 1});
    examples.push_back(std::move(example));
  }
  return make_choice_objective(std::move(examples), 4096);
}

void sweep(benchmark::State& state) {
  const LanguageModel model = model_of(state.range(0));
  const auto objective = dictionary_task();
  const auto heads = all_heads(model.config(), 8);
  SweepOptions options;
  options.max_batch_tokens = state.range(1);
  for (auto _ : state) ablation_sweep(model, *objective, heads, options);
}
void one_by_one(benchmark::State& state) {
  const LanguageModel model = model_of(state.range(0));
  const auto objective = dictionary_task();
  const auto heads = all_heads(model.config(), 8);
  for (auto _ : state) ablate_one_by_one(model, *objective, heads);
}
void maps(benchmark::State& state) {
  const LanguageModel model = model_of(state.range(0));
  const auto objective = dictionary_task();
  const auto heads = all_heads(model.config(), 8);
  for (auto _ : state) map_figures(model, *objective, heads);
}

// Kinds: attention, Mamba-2, Mamba-1.
constexpr auto kMs = benchmark::kMillisecond;
BENCHMARK(sweep)
    ->ArgNames({"kind", "tokens"})
    ->ArgsProduct({{0, 1, 2}, {2048, 4096, 16384}})
    ->Unit(kMs)
    ->Iterations(1);
BENCHMARK(one_by_one)->ArgName("kind")->DenseRange(0, 2)->Unit(kMs)->Iterations(1);
BENCHMARK(maps)->ArgName("kind")->DenseRange(0, 2)->Unit(kMs)->Iterations(1);

}  // namespace
}  // namespace headlens

BENCHMARK_MAIN();
