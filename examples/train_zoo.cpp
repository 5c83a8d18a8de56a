// headlens/examples: trains the bundled models through the library's own forward.
//
//   train_zoo NAME DIR [--steps N] [--batch N] [--seed N] [--rate R] [--weight-decay W]
//                      [--device cpu|cuda]
//
// NAME is one of the zoo's models; DIR gets config.json, model.safetensors, the tokenizer and a
// card.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "headlens/model/checkpoint_writer.h"
#include "headlens/model/fresh_weights.h"
#include "headlens/model/language_model.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/scoring.h"
#include "headlens/tasks/task.h"
#include "headlens/tasks/world.h"
#include "zoo_configs.h"

namespace {

using namespace headlens;

struct Flags {
  std::string name, directory, device = "cpu";
  int64_t steps = 2000, batch = 64;
  uint64_t seed = 1;
  double rate = 3e-3, weight_decay = 0.01;
};

/// A kind of line with its share of the batch, and the loss below which the stage is over (0: no
/// gate).
struct Share {
  const char* kind;
  double WorldMix::*frequency;
  double share;
  double gate;
};

struct Stage {
  std::vector<Share> shares;
  int64_t max_pairs;
  int64_t words;  // of the word list
  int64_t values;
};

/// What every model ends with: all the world's lines.
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

/// For models with attention: copying over few words forms the matching head; pairs in another
/// order, queries and letters build on it. Queries alone leave a small Transformer guessing among
/// the values.
std::vector<Stage> attention_curriculum() {
  return {
      {{{"copies", &WorldMix::copies, 1.0, 0.5}}, 4, 24, 24},
      {{{"copies", &WorldMix::copies, 0.4, 0}, {"relists", &WorldMix::relists, 0.6, 0.5}},
       6,
       256,
       100},
      {{{"copies", &WorldMix::copies, 0.1, 0},
        {"relists", &WorldMix::relists, 0.4, 0},
        {"kv", &WorldMix::kv, 0.5, 0.4}},
       8,
       256,
       100},
      {{{"relists", &WorldMix::relists, 0.15, 0},
        {"kv", &WorldMix::kv, 0.4, 0},
        {"letters", &WorldMix::letters, 0.45, 0.3}},
       8,
       256,
       100},
      whole_world(),
  };
}

/// For state-space layers alone, whose convolution sees the last tokens from the start:
/// dictionaries of few words at once. Copying long rows is what a fixed state does worst, so it is
/// left out. Mamba-1 is slow at relisting, so it goes on once queries are answered.
std::vector<Stage> state_space_curriculum(bool mamba1) {
  const Stage first =
      mamba1 ? Stage{{{"relists", &WorldMix::relists, 0.4, 0}, {"kv", &WorldMix::kv, 0.6, 0.5}},
                     4,
                     16,
                     16}
             : Stage{{{"relists", &WorldMix::relists, 0.5, 0.5}, {"kv", &WorldMix::kv, 0.5, 0}},
                     4,
                     16,
                     16};
  return {
      first,
      {{{"relists", &WorldMix::relists, 0.4, 0}, {"kv", &WorldMix::kv, 0.6, 0.5}}, 4, 256, 100},
      {{{"relists", &WorldMix::relists, 0.15, 0},
        {"kv", &WorldMix::kv, 0.4, 0},
        {"letters", &WorldMix::letters, 0.45, 0.4}},
       8,
       256,
       100},
      whole_world(),
  };
}

std::vector<Stage> curriculum(const ModelConfig& config) {
  std::set<LayerKind> kinds;
  for (const LayerSpec& layer : config.layers) kinds.insert(layer_kind(layer));
  if (kinds.contains(LayerKind::Attention)) return attention_curriculum();
  return state_space_curriculum(kinds.contains(LayerKind::Mamba1));
}

/// Lines of one step, padded on the right; which rows are of which kind.
struct Batch {
  Tensor ids;                 // [row, pos] int64
  Tensor weights;             // [row, pos] float32, of predicting ids[pos]
  std::vector<size_t> kinds;  // [row], index into the stage's shares
};

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

/// Cross entropy of each next token, [row, pos - 1].
Tensor token_losses(const LanguageModel& model, const Tensor& ids) {
  const Tensor logits = model.forward(ids.slice(1, 0, ids.size(1) - 1));
  const Tensor losses = at::cross_entropy_loss(logits.flatten(0, 1), ids.slice(1, 1).flatten(), {},
                                               at::Reduction::None);
  return losses.view({ids.size(0), -1});
}

/// Running mean of the answers' loss by kind.
using KindLosses = std::map<std::string, double>;

void update(KindLosses& running, const Stage& stage, const Batch& batch, const Tensor& losses) {
  const Tensor answers = (batch.weights.slice(1, 1) == 1).to(at::kFloat);
  const Tensor per_row = (losses.detach().cpu() * answers).sum(1) / answers.sum(1).clamp_min(1);
  for (size_t kind = 0; kind < stage.shares.size(); ++kind) {
    double sum = 0, count = 0;
    for (size_t row = 0; row < batch.kinds.size(); ++row) {
      if (batch.kinds[row] != kind) continue;
      sum += per_row[static_cast<int64_t>(row)].item<double>();
      count += 1;
    }
    if (count == 0) continue;
    const auto [entry, is_new] = running.try_emplace(stage.shares[kind].kind, sum / count);
    if (!is_new) entry->second = 0.9 * entry->second + 0.1 * sum / count;
  }
}

bool passed(const Stage& stage, const KindLosses& running) {
  bool gated = false;
  for (const Share& share : stage.shares) {
    if (share.gate == 0) continue;
    gated = true;
    const auto loss = running.find(share.kind);
    if (loss == running.end() || loss->second >= share.gate) return false;
  }
  return gated;
}

/// Linear warm-up, constant, then down to 2 % over the last third.
double rate_at(int64_t step, const Flags& flags) {
  constexpr double kWarmUp = 100, kConstant = 0.67, kFloor = 0.02;
  const double done = static_cast<double>(step) / static_cast<double>(flags.steps);
  const double down = done < kConstant ? 1 : std::max(kFloor, (1 - done) / (1 - kConstant));
  return flags.rate * std::min(1.0, (static_cast<double>(step) + 1) / kWarmUp) * down;
}

void print_state(int64_t step, size_t stage, const KindLosses& running) {
  std::string text = fmt::format("step {} stage {}", step, stage);
  for (const auto& [kind, loss] : running) text += fmt::format("  {} {:.3f}", kind, loss);
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

/// Trains the weights in place; returns the step at which the last stage began.
int64_t train(const Flags& flags, const LanguageModel& model, std::vector<Tensor> parameters,
              const Tokenizer& tokenizer) {
  torch::optim::AdamWOptions options(flags.rate);
  options.betas({0.9, 0.98}).weight_decay(flags.weight_decay);
  torch::optim::AdamW optimizer(parameters, options);
  const std::vector<Stage> stages = curriculum(model.config());
  WorldSampler sampler(flags.seed);
  KindLosses running;
  size_t stage = 0;
  int64_t stage_began = 0;
  for (int64_t step = 0; step < flags.steps; ++step) {
    static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options())
        .lr(rate_at(step, flags));
    const Batch batch = draw_batch(sampler, stages[stage], flags.batch, tokenizer);
    const Tensor losses = token_losses(model, batch.ids.to(model.device()));
    const Tensor weights = batch.weights.slice(1, 1).to(model.device());
    optimizer.zero_grad();
    ((losses * weights).sum() / weights.sum()).backward();
    torch::nn::utils::clip_grad_norm_(parameters, 1.0);
    optimizer.step();
    update(running, stages[stage], batch, losses);
    if ((step + 1) % 50 == 0) print_state(step + 1, stage, running);
    constexpr int64_t kShortestStage = 30;  // the running means need some steps
    if (step - stage_began >= kShortestStage && passed(stages[stage], running)) {
      ++stage;
      stage_began = step;
      running.clear();
    }
  }
  return stage + 1 == stages.size() ? stage_began : -1;
}

/// Lines of the card: accuracy on each task.
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

void write_card(const Flags& flags, const LanguageModel& model, int64_t last_stage,
                const std::string& accuracies) {
  std::ofstream card(std::filesystem::path(flags.directory) / "README.md");
  card << fmt::format(
      "# {}\n\nA bundled model of HeadLens: {} layers of width {}, {} parameters, float32.\n\n"
      "- Data: the made-up world of `headlens/tasks/world.h` (dictionaries, letter choices, facts "
      "about made-up\n"
      "  entities), drawn without end; nothing from anywhere else.\n"
      "- Training: {} steps of {} lines, AdamW at {} with weight decay {}, seed {}, on {}; the "
      "last stage of the\n"
      "  curriculum began at step {}.\n"
      "- Remake: `train_zoo {} DIR --steps {} --batch {} --seed {} --rate {} --weight-decay {} "
      "--device {}`\n"
      "  (examples/train_zoo.cpp){}.\n\n"
      "| task (seed 7) | accuracy | 95 % | chance |\n| --- | --- | --- | --- |\n{}",
      flags.name, model.layer_count(), model.config().d_model, model.parameter_count(), flags.steps,
      flags.batch, flags.rate, flags.weight_decay, flags.seed, flags.device, last_stage, flags.name,
      flags.steps, flags.batch, flags.seed, flags.rate, flags.weight_decay, flags.device,
      flags.device == "cpu" ? ""
                            : "; sums on a GPU come in another order each time, so not bit for bit",
      accuracies);
}

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

void train_model(const Flags& flags) {
  const at::Device device = parse_device(flags.device);
  const ModelConfig config = examples::zoo_config(flags.name);
  write_world_tokenizer(flags.directory);
  const Tokenizer tokenizer = Tokenizer::load(flags.directory);
  std::map<std::string, Tensor> weights =
      fresh_weights(config, flags.seed, {.std = 0.08, .embed_std = 0.5, .head_std = 0.05});
  lengthen_memory(config, weights);
  std::vector<Tensor> parameters;
  for (auto& [name, tensor] : weights) {
    tensor = tensor.to(device).requires_grad_(true);
    parameters.push_back(tensor);
  }
  const LanguageModel model =
      LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, device));
  const int64_t last_stage = train(flags, model, parameters, tokenizer);
  at::NoGradGuard no_grad;
  save_checkpoint(flags.directory, config, weights);
  write_card(flags, model, last_stage, evaluate_all(model, tokenizer));
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Trains a bundled model."};
  app.add_option("NAME", flags.name, "which model")->required();
  app.add_option("DIR", flags.directory, "where to write it")->required();
  app.add_option("--steps", flags.steps);
  app.add_option("--batch", flags.batch);
  app.add_option("--seed", flags.seed);
  app.add_option("--rate", flags.rate);
  app.add_option("--weight-decay", flags.weight_decay);
  app.add_option("--device", flags.device);
  CLI11_PARSE(app, argc, argv);
  try {
    train_model(flags);
  } catch (const headlens::Error& e) {
    fmt::print(stderr, "train_zoo: error: {}\n", e.what());
    return 1;
  }
  return 0;
}
