// headlens/examples: what the trainers of the bundled models share: lines, losses, cards.
#include "zoo_training.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <variant>

#include "headlens/model/fresh_weights.h"
#include "headlens/tasks/scoring.h"
#include "headlens/tasks/task.h"

namespace headlens::examples {
namespace {

/// Llamba's decay comes from the token alone; without this it starts at one half a token, which
/// forgets a dictionary before it is read. Rates softplus(A_log) log-uniform in [0.001, 0.1]
/// remember 10 to 1000 tokens, as Mamba's dt does.
void lengthen_memory(const ModelConfig& config, std::map<std::string, Tensor>& weights) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const auto* mixer = std::get_if<DiscreteMamba2Spec>(&*config.layers[i].mixer);
    if (mixer == nullptr) continue;
    const Tensor& bias = weights.at(fmt::format("backbone.layers.{}.mixer.in_proj.bias", i));
    const Tensor rates = at::logspace(-3, -1, mixer->v_heads);
    bias.slice(0, bias.size(0) - mixer->v_heads).copy_(rates.expm1().log());  // inverse softplus
  }
}

}  // namespace

Stage whole_world() {
  return {{{"relists", &WorldMix::relists, 0.1, 0},
           {"kv", &WorldMix::kv, 0.35, 0},
           {"letters", &WorldMix::letters, 0.25, 0},
           {"facts", &WorldMix::facts, 0.12, 0},
           {"fact_letters", &WorldMix::fact_letters, 0.18, 0}},
          16,
          256,
          100};
}

Batch draw_batch(WorldSampler& sampler, const Stage& stage, int64_t rows,
                 const Tokenizer& tokenizer) {
  std::vector<WeightedLine> lines;
  Batch batch;
  double until = 0;
  for (size_t kind = 0; kind < stage.shares.size(); ++kind) {
    WorldMix mix{.kv = 0, .letters = 0, .facts = 0, .fact_letters = 0};
    mix.*stage.shares[kind].frequency = 1;
    mix.max_pairs = stage.max_pairs;
    mix.words = stage.words;
    mix.values = stage.values;
    mix.queries = 6;
    mix.questions = stage.shares[kind].frequency == &WorldMix::facts ? 8 : 3;
    mix.other_weight = 0.02F;  // a little of the language, so that the text itself is learnt too
    until += stage.shares[kind].share;
    while (static_cast<double>(lines.size()) < until * static_cast<double>(rows) - 0.5) {
      lines.push_back(sampler.next(mix, tokenizer));
      batch.kinds.push_back(kind);
    }
  }
  size_t longest = 0;
  for (const WeightedLine& line : lines) longest = std::max(longest, line.ids.size());
  const auto count = static_cast<int64_t>(lines.size()), length = static_cast<int64_t>(longest);
  batch.ids = at::zeros({count, length}, at::kLong);
  batch.weights = at::zeros({count, length});
  for (int64_t i = 0; i < count; ++i) {
    const WeightedLine& line = lines[static_cast<size_t>(i)];
    const auto size = static_cast<int64_t>(line.ids.size());
    batch.ids[i].slice(0, 0, size).copy_(at::tensor(line.ids, at::kLong));
    batch.weights[i].slice(0, 0, size).copy_(at::tensor(line.weights));
  }
  return batch;
}

double rate_at(int64_t step, int64_t steps, double rate) {
  constexpr double kWarmUp = 100, kConstant = 0.67, kFloor = 0.02;
  const double done = static_cast<double>(step) / static_cast<double>(steps);
  const double down = done < kConstant ? 1 : std::max(kFloor, (1 - done) / (1 - kConstant));
  return rate * std::min(1.0, (static_cast<double>(step) + 1) / kWarmUp) * down;
}

std::map<std::string, Tensor> first_weights(const ModelConfig& config, uint64_t seed) {
  std::map<std::string, Tensor> weights =
      fresh_weights(config, seed, {.std = 0.08, .embed_std = 0.5, .head_std = 0.05});
  lengthen_memory(config, weights);
  return weights;
}

std::string evaluate_all(const LanguageModel& model, const Tokenizer& tokenizer) {
  std::string lines;
  for (const char* spec :
       {"kv:pairs=4,n=512", "kv:pairs=8,n=512", "kv:pairs=16,n=512", "kv:pairs=24,n=512",
        "mcq:options=4,n=512", "world-facts:n=240", "world-mcq:options=4,n=512"}) {
    const EvalResult r = evaluate(model, tokenize(make_task(spec, 7), tokenizer));
    lines += fmt::format("| `{}` | {:.3f} | {:.3f} to {:.3f} | {:.3f} |\n", spec, r.accuracy,
                         r.ci_low, r.ci_high, r.chance);
    fmt::print("{}: {:.3f}\n", spec, r.accuracy);
    std::fflush(stdout);
  }
  return lines;
}

}  // namespace headlens::examples
