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
#include "headlens/model/language_model.h"
#include "headlens/model/tokenizer.h"
#include "zoo_configs.h"
#include "zoo_training.h"

namespace {

using namespace headlens;
using namespace headlens::examples;

struct Flags {
  std::string name, directory, device = "cpu";
  int64_t steps = 2000, batch = 64;
  uint64_t seed = 1;
  double rate = 3e-3, weight_decay = 0.01;
};

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

void print_state(int64_t step, size_t stage, const KindLosses& running) {
  std::string text = fmt::format("step {} stage {}", step, stage);
  for (const auto& [kind, loss] : running) text += fmt::format("  {} {:.3f}", kind, loss);
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

/// Trains the weights in place; returns the step at which the last stage began.
int64_t train(const Flags& flags, const LanguageModel& model, const std::vector<Tensor>& parameters,
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
        .lr(rate_at(step, flags.steps, flags.rate));
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

void write_card(const Flags& flags, const LanguageModel& model, int64_t last_stage,
                const std::string& accuracies) {
  const std::string last =
      last_stage < 0
          ? "the last stage of the\n  curriculum, all lines, was not reached"
          : fmt::format("the last stage of the\n  curriculum began at step {}", last_stage);
  std::ofstream card(std::filesystem::path(flags.directory) / "README.md");
  card << fmt::format(
      "# {}\n\nA bundled model of HeadLens: {} layers of width {}, {} parameters, float32.\n\n"
      "- Data: the made-up world of `headlens/tasks/world.h` (dictionaries, letter choices, facts "
      "about made-up\n"
      "  entities), drawn without end; nothing from anywhere else.\n"
      "- Training: {} steps of {} lines, AdamW at {} with weight decay {}, seed {}, on {}; {}.\n"
      "- Remake: `train_zoo {} DIR --steps {} --batch {} --seed {} --rate {} --weight-decay {} "
      "--device {}`\n"
      "  (examples/train_zoo.cpp){}.\n\n"
      "| task (seed 7) | accuracy | 95 % | chance |\n| --- | --- | --- | --- |\n{}",
      flags.name, model.layer_count(), model.config().d_model, model.parameter_count(), flags.steps,
      flags.batch, flags.rate, flags.weight_decay, flags.seed, flags.device, last, flags.name,
      flags.steps, flags.batch, flags.seed, flags.rate, flags.weight_decay, flags.device,
      flags.device == "cpu" ? ""
                            : "; sums on a GPU come in another order each time, so not bit for bit",
      accuracies);
}

void train_model(const Flags& flags) {
  const at::Device device = parse_device(flags.device);
  const ModelConfig config = zoo_config(flags.name);
  write_world_tokenizer(flags.directory);
  const Tokenizer tokenizer = Tokenizer::load(flags.directory);
  std::map<std::string, Tensor> weights = first_weights(config, flags.seed);
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
