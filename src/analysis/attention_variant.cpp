// headlens/analysis: an SSM head whose mixing softmax attention takes over, trained in place.
#include "headlens/analysis/attention_variant.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>

#include "analysis/judged_run.h"
#include "core/check.h"

namespace headlens {
namespace {

/// Projections [3 width, d_model] whose q, k and v of a normed residual have entries of size 1.
Tensor fresh_projections(const LanguageModel& model, const HeadPlace& place, uint64_t seed) {
  const LayerSpec& spec = model.config().layers.at(static_cast<size_t>(place.layer));
  const int64_t width = bank_of(spec, place.head).width, d_model = model.config().d_model;
  const auto generator = at::detail::createCPUGenerator(seed);
  const Tensor drawn = at::randn({3 * width, d_model}, generator, at::kFloat);
  return (drawn / std::sqrt(static_cast<double>(d_model)))
      .to(model.layer_device(place.layer), model.dtype());
}

/// Mean -ln p of the right choice over one batch, differentiable in what lies at or above `layer`.
Tensor loss_of(const LanguageModel& model, const Objective& objective, int64_t batch,
               int64_t layer) {
  const JudgedRun run(model, objective, batch);
  Tensor entering;
  {
    const c10::NoGradGuard no_grad;
    entering = model.run_layers(run.resid(), 0, layer, nullptr, nullptr, run.prompt());
  }
  const Tensor judged = model.run_to_end(entering, layer, run.batch().logit_positions, nullptr,
                                         nullptr, run.prompt());
  return at::softplus(-objective.answer_log_odds(batch, model.unembed(judged))).mean();
}

/// The rate holds for two thirds and then falls to 2 %.
double share_of_rate(int64_t step, int64_t steps) {
  const double left = 1 - static_cast<double>(step) / static_cast<double>(steps);
  return std::clamp(3 * left, 0.02, 1.0);
}

}  // namespace

AttentionVariant train_attention_variant(const LanguageModel& model, const Objective& objective,
                                         const HeadPlace& head, const VariantOptions& options) {
  HEADLENS_CHECK(UsageError, model.dtype() == at::kFloat || model.dtype() == at::kDouble,
                 "[graft] dtype to train in, expected float32 or float64, got {}",
                 dtype_name(model.dtype()));
  HEADLENS_CHECK(UsageError, options.steps >= 1,
                 "[graft] training steps, expected at least 1, got {}", options.steps);
  HEADLENS_CHECK(UsageError, options.rate > 0 && std::isfinite(options.rate),
                 "[graft] training rate, expected a number above 0, got {}", options.rate);
  HEADLENS_CHECK(UsageError, objective.batch_count() > 0,
                 "[graft] training examples, expected some, got {}", "none");
  HEADLENS_CHECK(HookError, 0 <= head.layer && head.layer < model.layer_count(),
                 "[graft] layer of the recipient, expected 0 to {}, got {}",
                 model.layer_count() - 1, head.layer);
  const Tensor first = fresh_projections(model, head, options.seed);
  const Tensor qkv = first.clone().requires_grad_(true);
  AttentionVariant variant{graft_attention_head(model, head, first),
                           graft_attention_head(model, head, qkv)};
  torch::optim::AdamW optimizer({qkv}, torch::optim::AdamWOptions(options.rate).weight_decay(0));
  const int64_t tenth = std::max<int64_t>(1, options.steps / 10);
  const c10::AutoGradMode with_gradients(true);
  for (int64_t step = 0; step < options.steps; ++step) {
    optimizer.param_groups()[0].options().set_lr(options.rate * share_of_rate(step, options.steps));
    const Tensor loss =
        loss_of(variant.trained, objective, step % objective.batch_count(), head.layer);
    const double value = loss.item<double>();
    HEADLENS_CHECK(Error, std::isfinite(value), "[graft] training loss, expected a number, got {}",
                   value);
    if (step < tenth) variant.first_loss += value / static_cast<double>(tenth);
    if (step >= options.steps - tenth) variant.last_loss += value / static_cast<double>(tenth);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (options.progress) options.progress(step + 1, options.steps);
  }
  qkv.requires_grad_(false);
  return variant;
}

}  // namespace headlens
