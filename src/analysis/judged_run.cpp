// headlens/analysis: from a residual inside the model to verdicts, for variants of a batch.
#include "analysis/judged_run.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "analysis/batch_rows.h"

namespace headlens {
namespace {

/// values [variant * row, pos, d_model] -> those at `positions` [row, n]
Tensor take_positions(const Tensor& values, const Tensor& positions) {
  const int64_t variants = values.size(0) / positions.size(0);
  const Tensor index = positions.to(values.device()).repeat({variants, 1}).unsqueeze(-1);
  return values.gather(1, index.expand({-1, -1, values.size(-1)}));
}

}  // namespace

JudgedRun::JudgedRun(const LanguageModel& model, const Objective& objective, int64_t index)
    : model_(model),
      objective_(objective),
      index_(index),
      batch_(objective.batch(index)),
      resid_(model.embed(batch_.ids)),
      prompt_(model.prompt_of(resid_)) {}

Prompt JudgedRun::prompt(int64_t copies) const {
  return repeated_rows(prompt_, copies);
}

std::vector<std::vector<Verdict>> JudgedRun::finish(int64_t layer, const Tensor& resid,
                                                    Tap* tap) const {
  constexpr int64_t kLogits = 1 << 26;  // held at once
  const int64_t rows = batch_.ids.size(0), variants = resid.size(0) / rows;
  const Tensor last =
      model_.run_layers(resid, layer, model_.layer_count(), tap, nullptr, prompt(variants));
  const Tensor judged = take_positions(last, batch_.logit_positions);
  const int64_t per_variant = batch_.logit_positions.numel() * model_.config().vocab_size;
  const int64_t step = std::clamp<int64_t>(kLogits / per_variant, 1, variants);
  std::vector<std::vector<Verdict>> verdicts;
  for (int64_t first = 0; first < variants; first += step) {
    const int64_t count = std::min(step, variants - first);
    const Tensor logits = model_.unembed(judged.narrow(0, first * rows, count * rows));
    for (auto& part : objective_.judge(index_, logits, count)) verdicts.push_back(std::move(part));
  }
  return verdicts;
}

void JudgedRun::store(const std::vector<Verdict>& verdicts, SweepOutcome& outcome) const {
  for (size_t i = 0; i < batch_.examples.size(); ++i) {
    outcome.verdicts.at(static_cast<size_t>(batch_.examples[i])) = verdicts.at(i);
  }
}

SweepOutcome empty_outcome(const Objective& objective) {
  SweepOutcome outcome;
  outcome.verdicts.resize(static_cast<size_t>(objective.example_count()));
  return outcome;
}

}  // namespace headlens
