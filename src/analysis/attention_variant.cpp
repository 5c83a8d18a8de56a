// headlens/analysis: an SSM head whose mixing softmax attention takes over, trained in place.
#include "headlens/analysis/attention_variant.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/optim/adamw.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "analysis/judged_run.h"
#include "core/check.h"
#include "core/value_bytes.h"

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

constexpr int64_t kStepsKept = 64;  // together

/// What training has come to: the projections, Adam's moments, the losses.
struct Training {
  Tensor qkv;
  torch::optim::AdamW optimizer;
  double first_loss = 0, last_loss = 0;

  torch::optim::AdamWParamState& state() {
    auto& state = optimizer.state()[qkv.unsafeGetTensorImpl()];
    if (!state) state = std::make_unique<torch::optim::AdamWParamState>();
    return static_cast<torch::optim::AdamWParamState&>(*state);
  }
};

std::string bytes_of(Training& training) {
  ValueWriter out;
  out.put(training.first_loss), out.put(training.last_loss);
  const torch::optim::AdamWParamState& state = training.state();
  out.put(state.step());
  for (const Tensor& x : {training.qkv.detach(), state.exp_avg(), state.exp_avg_sq()}) {
    const Tensor host = x.cpu().contiguous();
    out.put_text({static_cast<const char*>(host.const_data_ptr()), host.nbytes()});
  }
  return std::move(out.bytes);
}

void read(const std::string& bytes, Training& training) {
  const c10::NoGradGuard no_grad;
  ValueReader in(bytes);
  training.first_loss = in.get<double>(), training.last_loss = in.get<double>();
  torch::optim::AdamWParamState& state = training.state();
  state.step(in.get<int64_t>());
  const auto tensor = [&] {
    std::string text = in.get_text();
    const Tensor& like = training.qkv;
    const Tensor host =
        at::empty(like.sizes(), like.options().device(at::kCPU).requires_grad(false));
    HEADLENS_CHECK(Error, text.size() == host.nbytes(),
                   "[journal] a training step's tensor, expected {} bytes, got {}", host.nbytes(),
                   text.size());
    std::memcpy(host.mutable_data_ptr(), text.data(), text.size());
    return host.to(like.device());
  };
  training.qkv.copy_(tensor());
  state.exp_avg(tensor());
  state.exp_avg_sq(tensor());
}

void check_training(const LanguageModel& model, const Objective& objective, const HeadPlace& head,
                    const VariantOptions& options) {
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
}

/// One step of the optimizer; `model` has a head at `layer` with the projections in training.
void train_step(const LanguageModel& model, const Objective& objective, int64_t layer, int64_t step,
                const VariantOptions& options, Training& training) {
  const int64_t tenth = std::max<int64_t>(1, options.steps / 10);
  auto& optimizer = training.optimizer;
  optimizer.param_groups()[0].options().set_lr(options.rate * share_of_rate(step, options.steps));
  const Tensor loss = loss_of(model, objective, step % objective.batch_count(), layer);
  const double value = loss.item<double>();
  HEADLENS_CHECK(Error, std::isfinite(value), "[graft] training loss, expected a number, got {}",
                 value);
  if (step < tenth) training.first_loss += value / static_cast<double>(tenth);
  if (step >= options.steps - tenth) training.last_loss += value / static_cast<double>(tenth);
  optimizer.zero_grad();
  loss.backward();
  optimizer.step();
  if (options.progress) options.progress(step + 1, options.steps);
}

}  // namespace

AttentionVariant train_attention_variant(const LanguageModel& model, const Objective& objective,
                                         const HeadPlace& head, const VariantOptions& options) {
  check_training(model, objective, head, options);
  const Tensor first = fresh_projections(model, head, options.seed);
  const Tensor qkv = first.clone().requires_grad_(true);
  AttentionVariant variant{graft_attention_head(model, head, first),
                           graft_attention_head(model, head, qkv)};
  const auto how = torch::optim::AdamWOptions(options.rate).weight_decay(0);
  Training training{qkv, torch::optim::AdamW({qkv}, how)};
  const c10::AutoGradMode with_gradients(true);
  for (int64_t from = 0; from < options.steps; from += kStepsKept) {
    const int64_t to = std::min(from + kStepsKept, options.steps);
    const std::string key = fmt::format("training steps {} to {}", from, to);
    read(kept_step(options.steps_kept, key,
                   [&] {
                     for (int64_t step = from; step < to; ++step) {
                       train_step(variant.trained, objective, head.layer, step, options, training);
                     }
                     return bytes_of(training);
                   }),
         training);
  }
  variant.first_loss = training.first_loss, variant.last_loss = training.last_loss;
  qkv.requires_grad_(false);
  return variant;
}

}  // namespace headlens
