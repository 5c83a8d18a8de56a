// headlens/analysis: what a task loses when heads are switched off, many variants a batch.
#include "headlens/analysis/ablation_sweep.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "core/check.h"

namespace headlens {
namespace {

/// Everything a batch needs on the device, made once.
struct BatchRun {
  const LanguageModel& model;
  const Objective& objective;
  int64_t index;
  const ObjectiveBatch& batch;
  Tensor ids;        // [row, pos]
  Tensor positions;  // [row, n]
  Tensor cut_mask;   // [row, pos] bool, undefined: everywhere

  int64_t rows() const { return ids.size(0); }
};

/// True where a head is to be cut: rows that hold no example's prompt are answered like their
/// example's.
Tensor cut_mask(const Objective& objective, const ObjectiveBatch& batch, CutPositions where) {
  if (where == CutPositions::All) return {};
  Tensor at_query = at::zeros(batch.ids.sizes(), at::kBool);
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const int64_t q = objective.prompt(batch.examples[i]).length - 1;
    const int64_t end =
        i + 1 < batch.examples.size() ? batch.example_rows[i + 1] : batch.ids.size(0);
    for (int64_t row = batch.example_rows[i]; row < end; ++row) at_query[row][q] = true;
  }
  return where == CutPositions::QueryOnly ? at_query : at_query.logical_not();
}

BatchRun start_batch(const LanguageModel& model, const Objective& objective, int64_t index,
                     CutPositions where) {
  const ObjectiveBatch& batch = objective.batch(index);
  const at::Device device = model.device();
  Tensor mask = cut_mask(objective, batch, where);
  return {model,
          objective,
          index,
          batch,
          batch.ids.to(device),
          batch.logit_positions.to(device),
          mask.defined() ? mask.to(device) : mask};
}

/// Logits at the judged positions only: residual [variant * row, pos, d_model] -> verdicts
/// [variant][example].
std::vector<std::vector<Verdict>> judge(const BatchRun& run, const Tensor& resid,
                                        int64_t variants) {
  const Tensor where =
      run.positions.repeat({variants, 1}).unsqueeze(-1).expand({-1, -1, resid.size(2)});
  return run.objective.judge(run.index, run.model.unembed(resid.gather(1, where)), variants);
}

void store(std::vector<Verdict>& out, const ObjectiveBatch& batch,
           const std::vector<Verdict>& verdicts) {
  for (size_t i = 0; i < batch.examples.size(); ++i)
    out[static_cast<size_t>(batch.examples[i])] = verdicts[i];
}

std::map<int64_t, Tensor> mean_outputs(const LanguageModel& model, const Objective& objective,
                                       Placement placement) {
  MeanActivations tap(model.config(), {}, placement);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective.batch(b);
    Tensor valid = at::zeros(batch.ids.sizes(), at::kBool);
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      valid[batch.example_rows[i]]
          .slice(0, 0, objective.prompt(batch.examples[i]).length)
          .fill_(true);
    }
    tap.set_valid(valid.to(model.device()));
    model.run_layers(model.embed(batch.ids.to(model.device())), 0, model.layer_count(), &tap);
  }
  return tap.means();
}

HeadGroup group_of(const HeadId& head) {
  return {head.layer, head.first, head.last};
}

/// The targets of each layer, as indices into the caller's list. HookError for a head that does not
/// exist.
std::map<int64_t, std::vector<size_t>> by_layer(const ModelConfig& config,
                                                const std::vector<HeadId>& targets) {
  std::map<int64_t, std::vector<size_t>> layers;
  for (size_t t = 0; t < targets.size(); ++t) {
    check_heads(config, {group_of(targets[t])});
    layers[targets[t].layer].push_back(t);
  }
  return layers;
}

/// State of one sweep: the means (if that is the mode), the result, and the progress.
struct Sweep {
  const LanguageModel& model;
  const std::vector<HeadId>& targets;
  const SweepOptions& options;
  std::map<int64_t, Tensor> means;
  SweepResult result;
  int64_t done = 0, total = 0;

  /// The tap that cuts `cuts`, each variant its own heads, in the sweep's mode.
  std::shared_ptr<Tap> cut(const std::vector<VariantCuts>& cuts, const Tensor& mask) const;
  void advance(int64_t steps) {
    done += steps;
    if (options.progress) options.progress(done, total);
  }
};

std::shared_ptr<Tap> Sweep::cut(const std::vector<VariantCuts>& cuts, const Tensor& mask) const {
  const HeadCutOptions where{options.placement, mask, /*keep=*/false};
  if (options.mode == AblationMode::Zero) return zero_variants(model.config(), cuts, where);
  const int64_t variants = static_cast<int64_t>(cuts.front().heads.size());
  HeadReplacement replacement;
  if (options.mode == AblationMode::Mean) {
    replacement = [this](const Tensor&, int64_t layer) { return means.at(layer); };
  } else {  // the next row's output of the same variant, position by position
    replacement = [variants](const Tensor& outputs, int64_t) {
      return outputs.unflatten(0, {variants, -1}).roll(1, 1).flatten(0, 1);
    };
  }
  return std::make_shared<HeadIntervention>(model.config(), cuts, std::move(replacement), where);
}

Sweep begin(const LanguageModel& model, const Objective& objective,
            const std::vector<HeadId>& targets, const SweepOptions& options) {
  Sweep sweep{model, targets, options, {}, {}, 0, 0};
  if (options.mode == AblationMode::Mean)
    sweep.means = mean_outputs(model, objective, options.placement);
  const std::vector<Verdict> empty(static_cast<size_t>(objective.example_count()));
  sweep.result.base.verdicts = empty;
  sweep.result.variants.assign(targets.size(), SweepOutcome{empty});
  sweep.total = objective.batch_count() * static_cast<int64_t>(targets.size() + 1);
  return sweep;
}

/// All variants of one layer from the residual that enters it, `max_batch_tokens` at a time.
void sweep_layer(Sweep& sweep, const BatchRun& run, int64_t layer,
                 const std::vector<size_t>& members, const Tensor& resid) {
  const int64_t per_variant = run.ids.numel();
  const size_t step =
      static_cast<size_t>(std::max<int64_t>(1, sweep.options.max_batch_tokens / per_variant));
  for (size_t first = 0; first < members.size(); first += step) {
    const size_t count = std::min(step, members.size() - first);
    VariantCuts cuts{layer, {}};
    for (size_t i = 0; i < count; ++i)
      cuts.heads.push_back({group_of(sweep.targets[members[first + i]])});
    const int64_t n = static_cast<int64_t>(count);
    const auto tap = sweep.cut({cuts}, run.cut_mask);
    const Tensor out = sweep.model.run_layers(resid.repeat({n, 1, 1}), layer,
                                              sweep.model.layer_count(), tap.get());
    const auto verdicts = judge(run, out, n);
    for (size_t i = 0; i < count; ++i) {
      store(sweep.result.variants[members[first + i]].verdicts, run.batch, verdicts[i]);
    }
    sweep.advance(n);
  }
}

/// One whole forward with `heads` cut (none: the base).
std::vector<Verdict> whole_forward(const Sweep& sweep, const BatchRun& run, const HeadList& heads) {
  const std::shared_ptr<Tap> tap =
      heads.empty() ? nullptr : sweep.cut(cuts_of(heads), run.cut_mask);
  const Tensor resid =
      run.model.run_layers(run.model.embed(run.ids), 0, run.model.layer_count(), tap.get());
  return judge(run, resid, 1)[0];
}

}  // namespace

SweepResult ablation_sweep(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  Sweep sweep = begin(model, objective, targets, options);
  const auto layers = by_layer(model.config(), targets);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const BatchRun run = start_batch(model, objective, b, options.positions);
    Tensor resid = model.embed(run.ids);
    for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
      const auto members = layers.find(layer);
      if (members != layers.end()) sweep_layer(sweep, run, layer, members->second, resid);
      resid = model.run_layers(resid, layer, layer + 1);
    }
    store(sweep.result.base.verdicts, run.batch, judge(run, resid, 1)[0]);
    sweep.advance(1);
  }
  return std::move(sweep.result);
}

SweepResult ablate_one_by_one(const LanguageModel& model, const Objective& objective,
                              const std::vector<HeadId>& targets, const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  Sweep sweep = begin(model, objective, targets, options);
  by_layer(model.config(), targets);  // checks the heads
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const BatchRun run = start_batch(model, objective, b, options.positions);
    store(sweep.result.base.verdicts, run.batch, whole_forward(sweep, run, {}));
    for (size_t t = 0; t < targets.size(); ++t) {
      const std::vector<Verdict> verdicts = whole_forward(sweep, run, {group_of(targets[t])});
      store(sweep.result.variants[t].verdicts, run.batch, verdicts);
    }
    sweep.advance(static_cast<int64_t>(targets.size()) + 1);
  }
  return std::move(sweep.result);
}

SweepResult ablate_jointly(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, bool keep,
                           const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  Sweep sweep = begin(model, objective, targets, options);
  sweep.result.variants.resize(1);
  HeadList cut;
  for (const HeadId& target : targets) cut.push_back(group_of(target));
  check_heads(model.config(), cut);
  if (keep) cut = other_heads(model.config(), cut);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const BatchRun run = start_batch(model, objective, b, options.positions);
    store(sweep.result.base.verdicts, run.batch, whole_forward(sweep, run, {}));
    store(sweep.result.variants[0].verdicts, run.batch, whole_forward(sweep, run, cut));
    sweep.advance(2);
  }
  return std::move(sweep.result);
}

std::vector<HeadId> all_heads(const ModelConfig& config, int64_t groups) {
  HEADLENS_CHECK(UsageError, groups > 0,
                 "[find] channel groups a layer, expected at least 1, got {}", groups);
  std::vector<HeadId> heads;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const int64_t layer = static_cast<int64_t>(i), count = head_count(config.layers[i]);
    const bool channels = layer_kind(config.layers[i]) == LayerKind::Mamba1;
    const int64_t entries = channels ? std::min(groups, count) : count;
    for (int64_t e = 0; e < entries; ++e) {
      heads.push_back({layer, e * count / entries, (e + 1) * count / entries - 1});
    }
  }
  return heads;
}

}  // namespace headlens
