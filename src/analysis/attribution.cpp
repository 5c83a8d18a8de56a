// headlens/analysis: what every head is worth, estimated from one forward and one backward.
#include "headlens/analysis/attribution.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "analysis/batch_rows.h"
#include "analysis/gradient_tap.h"
#include "analysis/replacements.h"
#include "core/check.h"
#include "headlens/analysis/ablation_sweep.h"
#include "hooks/head_outputs.h"

namespace headlens {
namespace {

/// dL/dresid at one layer boundary, [row, pos, d_model]: of the whole loss, then, with GradDrop, of
/// the losses with one of the layers above cut out.
using Gradients = std::vector<Tensor>;

/// One way back: by which rule, and at which point of the path (1: clean outputs).
struct Backward {
  BackwardRule rule;
  double share = 1;
};

/// What is the same in all passes over one batch.
struct BatchPass {
  int64_t index;
  const ObjectiveBatch& batch;
  Prompt prompt;
  HeadOutputs ablated;
};

std::vector<int64_t> layers_with_heads(const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (const HeadId& head : all_heads(config, 1)) {
    if (layers.empty() || layers.back() != head.layer) layers.push_back(head.layer);
  }
  return layers;
}

/// Where judged rows of a residual are, to gather by.
Tensor judged_index(const BatchPass& pass, const Tensor& resid) {
  return pass.batch.logit_positions.to(resid.device())
      .unsqueeze(-1)
      .expand({-1, -1, resid.size(-1)});
}

/// Rows first .. first + count - 1 of what differs by row.
HeadOutputs rows_of(const HeadOutputs& outputs, int64_t first, int64_t count) {
  HeadOutputs rows;
  for (const auto& [point, value] : outputs) {
    rows[point] = value.dim() == 4 ? value.narrow(0, first, count) : value;
  }
  return rows;
}

Prompt rows_of(const Prompt& prompt, int64_t first, int64_t count) {
  Prompt rows = prompt;
  if (prompt.embedding.defined()) rows.embedding = prompt.embedding.narrow(0, first, count);
  return rows;
}

/// Attribution in progress: gradients go back layer by layer, each layer's forward done anew.
class Attribution {
 public:
  Attribution(const LanguageModel& model, const Objective& objective,
              const AttributionOptions& options, std::vector<BackwardRule> rules);
  void run_batch(int64_t index);
  std::vector<AttributionResult> results;  // of each rule

 private:
  BatchPass start(int64_t index, Tensor& resid) const;
  /// Residuals entering layers from .. L - 1 and the one that leaves the last. `share` is what is
  /// left of the head outputs on the path.
  std::vector<Tensor> boundaries(const BatchPass& pass, Tensor resid, int64_t from,
                                 double share) const;
  /// [example], of the judged rows of what leaves the last layer.
  Tensor log_odds_of(const BatchPass& pass, const Tensor& judged, BackwardRule rule) const;
  /// dL/dresid where it leaves the last layer.
  Tensor loss_gradient(const BatchPass& pass, const Tensor& resid, BackwardRule rule) const;
  /// Moves `gradients` from behind a layer to before it; returns the drops of its heads by each,
  /// [gradient][row, head].
  std::vector<Tensor> back_through(const BatchPass& pass, int64_t layer, const Tensor& resid,
                                   Gradients& gradients, Backward way) const;
  /// The same for some rows.
  std::vector<Tensor> redo_rows(const BatchPass& pass, int64_t layer, const Tensor& resid,
                                Gradients& gradients, int64_t first, Backward way) const;
  Tensor drop_of_heads(const GradientTap& tap, int64_t layer, const std::vector<Tensor>& found,
                       int64_t rows) const;
  /// Drops of all heads, by layer: [row, head].
  std::vector<Tensor> from_clean(const BatchPass& pass, const std::vector<Tensor>& resids,
                                 BackwardRule rule) const;
  Tensor mean_of_cut_gradients(const std::vector<Tensor>& drops, int64_t layer) const;
  double share_at(int64_t step) const;
  /// The same of each rule: they go back from the same forwards.
  std::vector<std::vector<Tensor>> along_all_heads(const BatchPass&, const Tensor& resid) const;
  std::vector<Tensor> along_own_layer(const BatchPass& pass, const std::vector<Tensor>& resids,
                                      BackwardRule rule) const;
  void store(const BatchPass& pass, const std::vector<Tensor>& drops, const Tensor& log_odds,
             AttributionResult& result) const;

  const LanguageModel& model_;
  const Objective& objective_;
  const AttributionOptions& options_;
  std::vector<BackwardRule> rules_;
  std::vector<int64_t> layers_;
  Replacements replacements_;
};

Attribution::Attribution(const LanguageModel& model, const Objective& objective,
                         const AttributionOptions& options, std::vector<BackwardRule> rules)
    : model_(model),
      objective_(objective),
      options_(options),
      rules_(std::move(rules)),
      layers_(layers_with_heads(model.config())),
      replacements_(model, objective, layers_, options.mode, options.placement) {
  HEADLENS_CHECK(TaskError, objective.example_count() > 0,
                 "[attribute] examples, expected at least 1, got 0");
  HEADLENS_CHECK(UsageError, options.steps >= 1, "[attribute] steps, expected at least 1, got {}",
                 options.steps);
  HEADLENS_CHECK(UsageError, options.path == GradientPath::Clean || !options.grad_drop,
                 "[attribute] path, expected {} with grad_drop, got another", "Clean");
  check_replaces(options.mode);
  HEADLENS_CHECK(UsageError, options.max_batch_tokens > 0,
                 "[attribute] tokens a batch, expected at least 1, got {}",
                 options.max_batch_tokens);
  constexpr int64_t kSingleChannels = INT32_MAX;
  AttributionResult none{all_heads(model.config(), kSingleChannels), {}, {}, {}};
  const int64_t heads = std::ssize(none.heads), examples = objective.example_count();
  none.mean_drop = Eigen::VectorXd::Zero(heads);
  none.logprob = Eigen::VectorXd::Zero(examples);
  if (options.per_example) none.drops = Eigen::MatrixXd::Zero(heads, examples);
  results.assign(rules_.size(), none);
}

BatchPass Attribution::start(int64_t index, Tensor& resid) const {
  const ObjectiveBatch& batch = objective_.batch(index);
  resid = model_.embed(batch.ids);
  return {index, batch, model_.prompt_of(resid), replacements_.for_batch(index)};
}

std::vector<Tensor> Attribution::boundaries(const BatchPass& pass, Tensor resid, int64_t from,
                                            double share) const {
  const bool on_all = options_.path == GradientPath::AllHeads;
  std::vector<Tensor> resids = {resid};
  for (int64_t layer = from; layer < model_.layer_count(); ++layer) {
    GradientTap tap(model_.config(), layer, options_.placement, BackwardRule::Slopes, pass.ablated,
                    share);
    Tap* scaling = share != 1 && (layer == from || on_all) ? &tap : nullptr;
    resid = model_.run_layers(resid, layer, layer + 1, scaling, nullptr, pass.prompt);
    resids.push_back(resid);
  }
  return resids;
}

Tensor Attribution::log_odds_of(const BatchPass& pass, const Tensor& judged,
                                BackwardRule rule) const {
  FixedScale fixed;
  const bool secants = rule == BackwardRule::Secants && model_.config().norm != NormKind::Layer;
  return objective_.answer_log_odds(pass.index, model_.unembed(judged, secants ? &fixed : nullptr));
}

Tensor Attribution::loss_gradient(const BatchPass& pass, const Tensor& resid,
                                  BackwardRule rule) const {
  const Tensor index = judged_index(pass, resid);
  const Tensor judged = resid.gather(1, index).detach().set_requires_grad(true);
  Tensor loss;
  {
    const c10::AutoGradMode with_grad(true);
    const Tensor log_odds = log_odds_of(pass, judged, rule);
    loss = options_.log_odds ? log_odds.sum() : at::log_sigmoid(log_odds).sum();
  }
  const Tensor gradient = torch::autograd::grad({loss}, {judged}).front();
  return at::zeros_like(resid).scatter_add(1, index, gradient);  // positions may come twice
}

Tensor Attribution::drop_of_heads(const GradientTap& tap, int64_t layer,
                                  const std::vector<Tensor>& found, int64_t rows) const {
  const LayerSpec& spec = model_.config().layers[static_cast<size_t>(layer)];
  const auto points = head_output_points(model_.config(), layer, options_.placement);
  const auto banks = head_banks(spec);
  std::vector<Tensor> parts;
  for (size_t i = 0; i < points.size(); ++i) {
    const Tensor distance = tap.distance(points[i]);
    const Tensor& gradient = found[i + 1];  // the first is that of the residual
    parts.push_back(gradient.defined() ? (distance * as_heads(gradient)).sum({1, 3})
                                       : at::zeros({rows, banks[i].count}, distance.options()));
  }
  return at::cat(parts, 1);
}

std::vector<Tensor> Attribution::redo_rows(const BatchPass& pass, int64_t layer,
                                           const Tensor& resid, Gradients& gradients, int64_t first,
                                           Backward way) const {
  const int64_t rows = resid.size(0);
  GradientTap tap(model_.config(), layer, options_.placement, way.rule,
                  rows_of(pass.ablated, first, rows), way.share);
  std::vector<Tensor> inputs = {resid.detach().set_requires_grad(true)};
  Tensor out;
  {
    const c10::AutoGradMode with_grad(true);
    out = model_.run_layers(inputs[0], layer, layer + 1, &tap, nullptr,
                            rows_of(pass.prompt, first, rows));
  }
  if (!tap.outputs.empty()) {
    for (const TapPoint point : head_output_points(model_.config(), layer, options_.placement)) {
      inputs.push_back(tap.outputs.at(point).used);
    }
  }
  std::vector<Tensor> drops;
  for (Tensor& gradient : gradients) {
    const bool last = &gradient == &gradients.back();
    const auto found = torch::autograd::grad({out}, inputs, {gradient.to(out.options())},
                                             /*retain_graph=*/!last, /*create_graph=*/false,
                                             /*allow_unused=*/true);
    gradient = found[0];
    if (!tap.outputs.empty()) drops.push_back(drop_of_heads(tap, layer, found, rows));
  }
  return drops;
}

std::vector<Tensor> Attribution::back_through(const BatchPass& pass, int64_t layer,
                                              const Tensor& resid, Gradients& gradients,
                                              Backward way) const {
  const int64_t rows = resid.size(0);
  const int64_t step = std::clamp<int64_t>(options_.max_batch_tokens / resid.size(1), 1, rows);
  std::vector<std::vector<Tensor>> before(gradients.size()), drops(gradients.size());
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t count = std::min(step, rows - first);
    Gradients some;
    for (const Tensor& gradient : gradients) some.push_back(gradient.narrow(0, first, count));
    const auto found = redo_rows(pass, layer, resid.narrow(0, first, count), some, first, way);
    for (size_t g = 0; g < some.size(); ++g) {
      before[g].push_back(some[g]);
      if (!found.empty()) drops[g].push_back(found[g]);
    }
  }
  std::vector<Tensor> all;
  for (size_t g = 0; g < gradients.size(); ++g) {
    gradients[g] = at::cat(before[g]);
    if (!drops[g].empty()) all.push_back(at::cat(drops[g]));
  }
  return all;
}

/// GradDrop: the mean of |drop| over the layers cut out of the gradient. Those below a layer leave
/// its drop as it is, its own makes it 0.
Tensor Attribution::mean_of_cut_gradients(const std::vector<Tensor>& drops, int64_t layer) const {
  const int64_t layers = model_.layer_count();
  if (layers == 1) return drops[0].abs();
  Tensor sum = drops[0].abs() * static_cast<double>(layer);
  for (size_t g = 1; g < drops.size(); ++g) sum = sum + drops[g].abs();
  return sum / static_cast<double>(layers - 1);
}

std::vector<Tensor> Attribution::from_clean(const BatchPass& pass,
                                            const std::vector<Tensor>& resids,
                                            BackwardRule rule) const {
  Gradients gradients = {loss_gradient(pass, resids.back(), rule)};
  std::vector<Tensor> all(resids.size() - 1);
  for (int64_t layer = model_.layer_count() - 1; layer >= 0; --layer) {
    const auto at = static_cast<size_t>(layer);
    const Tensor skips = gradients[0];  // past this layer, which takes no part
    const auto drops = back_through(pass, layer, resids[at], gradients, {rule});
    if (!drops.empty()) {
      all[at] = options_.grad_drop ? mean_of_cut_gradients(drops, layer) : drops[0];
    }
    if (options_.grad_drop) gradients.push_back(skips.to(gradients[0].options()));
  }
  return all;
}

double Attribution::share_at(int64_t step) const {
  return (static_cast<double>(step) + 0.5) / static_cast<double>(options_.steps);
}

void add_to(Tensor& sum, const Tensor& part) {
  sum = sum.defined() ? sum + part : part;
}

std::vector<std::vector<Tensor>> Attribution::along_all_heads(const BatchPass& pass,
                                                              const Tensor& resid) const {
  std::vector<std::vector<Tensor>> all(
      rules_.size(), std::vector<Tensor>(static_cast<size_t>(model_.layer_count())));
  for (int64_t step = 0; step < options_.steps; ++step) {
    const double share = share_at(step);
    const std::vector<Tensor> moved = boundaries(pass, resid, 0, share);
    for (size_t r = 0; r < rules_.size(); ++r) {
      Gradients gradients = {loss_gradient(pass, moved.back(), rules_[r])};
      for (int64_t layer = model_.layer_count() - 1; layer >= 0; --layer) {
        const auto at = static_cast<size_t>(layer);
        const auto drops = back_through(pass, layer, moved[at], gradients, {rules_[r], share});
        if (!drops.empty()) add_to(all[r][at], drops[0] / static_cast<double>(options_.steps));
      }
    }
  }
  return all;
}

std::vector<Tensor> Attribution::along_own_layer(const BatchPass& pass,
                                                 const std::vector<Tensor>& resids,
                                                 BackwardRule rule) const {
  std::vector<Tensor> all(resids.size() - 1);
  for (const int64_t layer : layers_) {
    const auto at = static_cast<size_t>(layer);
    for (int64_t step = 0; step < options_.steps; ++step) {
      const std::vector<Tensor> moved = boundaries(pass, resids[at], layer, share_at(step));
      Gradients gradients = {loss_gradient(pass, moved.back(), rule)};
      for (int64_t above = model_.layer_count() - 1; above > layer; --above) {
        back_through(pass, above, moved[static_cast<size_t>(above - layer)], gradients, {rule});
      }
      const auto drops = back_through(pass, layer, moved[0], gradients, {rule, share_at(step)});
      add_to(all[at], drops[0] / static_cast<double>(options_.steps));
    }
  }
  return all;
}

/// ln of the logistic function
double log_sigmoid(double x) {
  return x > 0 ? -std::log1p(std::exp(-x)) : x - std::log1p(std::exp(x));
}

void Attribution::store(const BatchPass& pass, const std::vector<Tensor>& drops,
                        const Tensor& log_odds, AttributionResult& result) const {
  std::vector<Tensor> defined;
  for (const Tensor& drop : drops) {
    if (drop.defined()) defined.push_back(drop.to(at::kCPU, at::kDouble));
  }
  if (defined.empty()) return;
  const Tensor by_row = at::cat(defined, 1);  // [row, head]
  const int64_t examples = std::ssize(pass.batch.examples);
  const Tensor by_example = at::zeros({examples, by_row.size(1)}, by_row.options())
                                .index_add_(0, example_of_rows(pass.batch), by_row);
  const Tensor odds = log_odds.to(at::kCPU);
  const auto found = by_example.accessor<double, 2>();
  const auto clean = odds.accessor<double, 1>();
  const double share = 1 / static_cast<double>(objective_.example_count());
  for (int64_t i = 0; i < examples; ++i) {
    const int64_t example = pass.batch.examples[static_cast<size_t>(i)];
    const double logprob = log_sigmoid(clean[i]);
    result.logprob[example] = logprob;
    for (int64_t h = 0; h < found.size(1); ++h) {
      const double drop =
          options_.log_odds ? logprob - log_sigmoid(clean[i] - found[i][h]) : found[i][h];
      HEADLENS_CHECK(TaskError, std::isfinite(drop),
                     "[attribute] example {}, expected a finite drop, got {}", example, drop);
      result.mean_drop[h] += share * drop;
      if (options_.per_example) result.drops(h, example) = drop;
    }
  }
}

void Attribution::run_batch(int64_t index) {
  Tensor resid;
  const BatchPass pass = start(index, resid);
  std::vector<Tensor> resids = boundaries(pass, resid, 0, 1);
  const Tensor clean = resids.back().gather(1, judged_index(pass, resids.back()));
  const Tensor log_odds = log_odds_of(pass, clean, BackwardRule::Slopes);
  if (options_.path == GradientPath::AllHeads) {
    resids.clear();  // each point of the path has its own
    const auto drops = along_all_heads(pass, resid);
    for (size_t r = 0; r < rules_.size(); ++r) store(pass, drops[r], log_odds, results[r]);
    return;
  }
  for (size_t r = 0; r < rules_.size(); ++r) {
    const auto drops = options_.path == GradientPath::Clean
                           ? from_clean(pass, resids, rules_[r])
                           : along_own_layer(pass, resids, rules_[r]);
    store(pass, drops, log_odds, results[r]);
  }
}

}  // namespace

std::vector<AttributionResult> attribute(const LanguageModel& model, const Objective& objective,
                                         const AttributionOptions& options,
                                         const std::vector<BackwardRule>& rules) {
  const c10::NoGradGuard no_grad;
  Attribution attribution(model, objective, options, rules);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    attribution.run_batch(b);
    if (options.progress) options.progress(b + 1, objective.batch_count());
  }
  return std::move(attribution.results);
}

AttributionResult attribute(const LanguageModel& model, const Objective& objective,
                            const AttributionOptions& options) {
  return std::move(attribute(model, objective, options, {options.rule}).front());
}

}  // namespace headlens
