// headlens/examples: distils a bundled SSM from the bundled Transformer, layer by layer, then
// whole.
//
//   distill_zoo TEACHER_DIR DIR [--align N] [--steps N] [--batch N] [--seed N] [--rate R]
//
// As Llamba came from Llama (arXiv 2502.14458): embeddings, norms, MLPs and the head are the
// teacher's; only the mixers are trained. For N steps each of them, reading what the teacher's
// layer reads, learns the teacher's map and what its attention writes; for --steps more the whole
// learns the teacher's distribution of the next token besides.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/nn/utils/clip_grad.h>
#include <torch/optim/adamw.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "headlens/core/error.h"
#include "headlens/core/safetensors.h"
#include "headlens/model/checkpoint_writer.h"
#include "headlens/model/families.h"
#include "zoo_configs.h"
#include "zoo_training.h"

namespace {

using namespace headlens;
using namespace headlens::examples;

constexpr const char* kName = "llamba-distilled";

struct Flags {
  std::string teacher, directory;
  int64_t align = 500, steps = 0, batch = 32;
  uint64_t seed = 1;
  double rate = 3e-3;
};

/// Keeps what passes at some sites, with its gradient.
class Seen : public Tap {
 public:
  explicit Seen(std::vector<Site> sites) : sites_(std::move(sites)) {}
  bool wants(TapPoint point) const override {
    return std::find(sites_.begin(), sites_.end(), point.site) != sites_.end();
  }
  Tensor visit(TapPoint point, Tensor value) override {
    values_[point] = value;
    return value;
  }
  const Tensor& at(Site site, int64_t layer) const { return values_.at({site, layer}); }

 private:
  std::vector<Site> sites_;
  std::map<TapPoint, Tensor> values_;
};

/// The teacher's tensors under the student's names, all but its attention.
std::map<std::string, Tensor> shared_weights(const std::filesystem::path& teacher,
                                             const ModelConfig& config) {
  const auto file = SafetensorsFile::open(teacher / "model.safetensors");
  const TensorNames &theirs = tensor_names("llama"), &ours = tensor_names(config.family);
  std::map<std::string, Tensor> shared;
  const auto take = [&](const std::string& from, const std::string& to) {
    shared[to + ".weight"] = file.tensor(from + ".weight").clone();
  };
  take(theirs.embed, ours.embed);
  take(theirs.final_norm, ours.final_norm);
  take(theirs.lm_head, ours.lm_head);
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const std::string from = fmt::format(fmt::runtime(theirs.layer), i) + ".";
    const std::string to = fmt::format(fmt::runtime(ours.layer), i) + ".";
    take(from + theirs.norm1, to + ours.norm1);
    take(from + theirs.norm2, to + ours.norm2);
    for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
      take(from + "mlp." + part, to + "mlp." + part);
    }
  }
  return shared;
}

/// Mean over layers of |student - teacher|^2 / |teacher|^2 of what the mixers write, and of
/// |M - P|^2 / |P|^2 of their maps; `real` [row, pos, 1] is 0 at padding.
Tensor alignment_loss(const LanguageModel& student, const Seen& teacher, const Tensor& real) {
  Seen seen({Site::Map, Site::MixerOut});
  const auto apart = [](const Tensor& ours, const Tensor& theirs) {
    return (ours - theirs).square().sum() / theirs.square().sum();
  };
  Tensor loss = at::zeros({});
  for (int64_t i = 0; i < student.layer_count(); ++i) {
    student.run_layers(teacher.at(Site::ResidPre, i), i, i + 1, &seen);
    const Tensor rows = real.unsqueeze(1);
    loss = loss + apart(seen.at(Site::MixerOut, i) * real, teacher.at(Site::AttnOut, i) * real) +
           apart(seen.at(Site::Map, i) * rows, teacher.at(Site::Pattern, i) * rows);
  }
  return loss / student.layer_count();
}

/// KL of the next token's distributions, weighted as the lines say.
Tensor distillation_loss(const LanguageModel& student, const Tensor& ids, const Tensor& logits,
                         const Tensor& weights) {
  const Tensor ours = student.forward(ids).log_softmax(-1), theirs = logits.log_softmax(-1);
  const Tensor kl = (theirs.exp() * (theirs - ours)).sum(-1);
  return (kl * weights).sum() / weights.sum();
}

Tensor loss_of(const LanguageModel& student, const LanguageModel& teacher, const Batch& batch,
               bool align) {
  const Tensor ids = batch.ids.slice(1, 0, batch.ids.size(1) - 1);
  const Tensor weights = batch.weights.slice(1, 1);
  Seen seen({Site::ResidPre, Site::Pattern, Site::AttnOut});
  Tensor logits;
  {
    const at::NoGradGuard no_grad;
    logits = teacher.forward(ids, {.tap = &seen});
  }
  const Tensor aligned = alignment_loss(student, seen, weights.gt(0).unsqueeze(-1));
  return align ? aligned : aligned + distillation_loss(student, ids, logits, weights);
}

void train(const Flags& flags, const LanguageModel& student, const LanguageModel& teacher,
           const std::vector<Tensor>& mixers, const Tokenizer& tokenizer) {
  torch::optim::AdamWOptions options(flags.rate);
  options.betas({0.9, 0.98}).weight_decay(0.01);
  torch::optim::AdamW optimizer(mixers, options);
  WorldSampler sampler(flags.seed);
  const Stage stage = whole_world();
  double running = 0;
  for (int64_t step = 0; step < flags.align + flags.steps; ++step) {
    const bool align = step < flags.align;
    const int64_t in_part = align ? step : step - flags.align;
    static_cast<torch::optim::AdamWOptions&>(optimizer.param_groups()[0].options())
        .lr(rate_at(in_part, align ? flags.align : flags.steps, flags.rate));
    const Batch batch = draw_batch(sampler, stage, flags.batch, tokenizer);
    const Tensor loss = loss_of(student, teacher, batch, align);
    optimizer.zero_grad();
    loss.backward();
    torch::nn::utils::clip_grad_norm_(mixers, 1.0);
    optimizer.step();
    running = in_part == 0 ? loss.item<double>() : 0.95 * running + 0.05 * loss.item<double>();
    if ((step + 1) % 50 == 0) {
      fmt::print("step {} {} {:.4f}\n", step + 1, align ? "alignment" : "distillation", running);
      std::fflush(stdout);
    }
  }
}

void write_card(const Flags& flags, const LanguageModel& model, const std::string& accuracies) {
  std::ofstream card(std::filesystem::path(flags.directory) / "README.md");
  card << fmt::format(
      "# {0}\n\nA bundled model of HeadLens: {1} layers of width {2}, {3} parameters, float32.\n\n"
      "- From: `transformer`, whose embeddings, norms, MLPs and head it has, unchanged; only its "
      "mixers were trained.\n"
      "- Data: the made-up world of `headlens/tasks/world.h`, drawn without end; nothing from "
      "anywhere else.\n"
      "- Training: {4} steps in which each layer, reading what the teacher's reads, learns the "
      "teacher's maps and what\n  its attention writes, and {5} more in which the whole also "
      "learns "
      "the teacher's distribution of the next token;\n  {6} lines a step, AdamW at {7} with weight "
      "decay 0.01, seed {8}, on cpu.\n"
      "- Remake: `distill_zoo TRANSFORMER_DIR DIR --align {4} --steps {5} --batch {6} --seed {8} "
      "--rate {7}`\n  (examples/distill_zoo.cpp).\n\n"
      "| task (seed 7) | accuracy | 95 % | chance |\n| --- | --- | --- | --- |\n{9}",
      kName, model.layer_count(), model.config().d_model, model.parameter_count(), flags.align,
      flags.steps, flags.batch, flags.rate, flags.seed, accuracies);
}

void distill(const Flags& flags) {
  const LanguageModel teacher = LanguageModel::load(flags.teacher);
  const ModelConfig config = zoo_config(kName);
  write_world_tokenizer(flags.directory);
  const Tokenizer tokenizer = Tokenizer::load(flags.directory);
  std::map<std::string, Tensor> weights = first_weights(config, flags.seed);
  const std::map<std::string, Tensor> shared = shared_weights(flags.teacher, config);
  std::vector<Tensor> mixers;
  for (auto& [name, tensor] : weights) {
    const auto same = shared.find(name);
    if (same != shared.end()) {
      tensor = same->second;
    } else {
      mixers.push_back(tensor.requires_grad_(true));
    }
  }
  const LanguageModel student =
      LanguageModel::build(config, WeightScope::from_map(weights, at::kFloat, at::kCPU));
  train(flags, student, teacher, mixers, tokenizer);
  const at::NoGradGuard no_grad;
  save_checkpoint(flags.directory, config, weights);
  write_card(flags, student, evaluate_all(student, tokenizer));
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Distils a bundled SSM from the bundled Transformer."};
  app.add_option("TEACHER_DIR", flags.teacher, "the Transformer")->required();
  app.add_option("DIR", flags.directory, "where to write the SSM")->required();
  app.add_option("--align", flags.align, "steps, layer by layer");
  app.add_option("--steps", flags.steps, "steps after them, of the whole");
  app.add_option("--batch", flags.batch);
  app.add_option("--seed", flags.seed);
  app.add_option("--rate", flags.rate);
  CLI11_PARSE(app, argc, argv);
  try {
    distill(flags);
  } catch (const headlens::Error& e) {
    fmt::print(stderr, "distill_zoo: error: {}\n", e.what());
    return 1;
  }
  return 0;
}
