// headlens/analysis: what a task loses when heads are switched off, many variants a batch.
#include "headlens/analysis/ablation_sweep.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "analysis/batch_rows.h"
#include "analysis/output_tap.h"
#include "analysis/reading_cut.h"
#include "analysis/replacements.h"
#include "core/check.h"

namespace headlens {
namespace {

/// What is the same in every forward of a batch.
struct BatchRun {
  int64_t index;
  const ObjectiveBatch& batch;
  Tensor resid;       // [row, pos, d_model], what enters the first layer
  Prompt prompt;      // what the layers read besides
  Tensor positions;   // [row, n]
  Tensor cut_mask;    // bool [row, pos] on the CPU; undefined: everywhere
  HeadOutputs given;  // in place of cut outputs; empty: zeros
};

/// A layer whose heads are cut: the residual entering it, and its head outputs where the variants
/// can restart from them (undefined: elsewhere they run the whole layer).
struct LayerRun {
  int64_t layer;
  Tensor resid;    // [row, pos, d_model]
  Tensor outputs;  // [row, pos, head..]
};

HeadGroup group_of(const HeadId& head) {
  return {head.layer, head.first, head.last};
}

/// The targets of each layer, as indices into `targets`. HookError for a head that does not exist.
std::map<int64_t, std::vector<size_t>> by_layer(const ModelConfig& config,
                                                const std::vector<HeadId>& targets) {
  std::map<int64_t, std::vector<size_t>> layers;
  for (size_t t = 0; t < targets.size(); ++t) {
    check_heads(config, {group_of(targets[t])});
    layers[targets[t].layer].push_back(t);
  }
  return layers;
}

std::vector<int64_t> layers_of(const HeadList& heads) {
  std::vector<int64_t> layers;
  for (const VariantCuts& cuts : cuts_of(heads)) layers.push_back(cuts.layer);
  return layers;
}

HeadList groups_of(const std::vector<HeadId>& heads) {
  HeadList groups;
  for (const HeadId& head : heads) groups.push_back(group_of(head));
  return groups;
}

/// values [variant * row, pos, ..] -> those at the judged positions, [variant * row, n, ..]
Tensor take_judged(const BatchRun& run, const Tensor& values) {
  const int64_t variants = values.size(0) / run.positions.size(0);
  std::vector<int64_t> shape = values.sizes().vec();
  shape[1] = run.positions.size(1);
  Tensor index = run.positions.to(values.device()).repeat({variants, 1});
  while (index.dim() < values.dim()) index = index.unsqueeze(-1);
  return values.gather(1, index.expand(shape));
}

Tensor cut_mask(const Objective& objective, const ObjectiveBatch& batch, CutPositions where) {
  if (where == CutPositions::InSegments) return segments_of_rows(objective, batch);
  if (where != CutPositions::FromQuery && where != CutPositions::BeforeQuery) return {};
  const Tensor query = query_of_rows(objective, batch).unsqueeze(1);  // [row, 1]
  const Tensor position = at::arange(batch.ids.size(1), at::kLong);
  return where == CutPositions::FromQuery ? position.ge(query) : position.lt(query);
}

/// One sweep: what it was asked for, its result so far, and the progress.
class Sweep {
 public:
  Sweep(const LanguageModel& model, const Objective& objective, const HeadList& heads,
        size_t variants, const SweepOptions& options);

  BatchRun start_batch(int64_t index) const;
  /// Runs a layer untouched and moves `resid` past it.
  LayerRun run_layer(const BatchRun& run, int64_t layer, Tensor& resid) const;
  /// Verdicts [variant][example], each variant with one of `heads` of the layer cut.
  std::vector<std::vector<Verdict>> run_variants(const BatchRun& run, const LayerRun& at,
                                                 const std::vector<HeadId>& heads) const;
  /// The same for cuts of what the heads read, one after another.
  std::vector<std::vector<Verdict>> run_reading_cuts(const BatchRun& run, const LayerRun& at,
                                                     const std::vector<HeadId>& heads) const;
  /// One whole forward with `heads` cut together.
  std::vector<Verdict> run_whole(const BatchRun& run, const HeadList& heads) const;
  std::vector<Verdict> run_base(const BatchRun& run) const;
  /// From the residual leaving the last layer at the judged positions, [variant * row, n, d_model]:
  /// verdicts [variant][example].
  std::vector<std::vector<Verdict>> judge(const BatchRun& run, const Tensor& resid,
                                          int64_t variants) const;

  /// Variants of `per_variant` row x pos that run together.
  size_t variants_at_once(int64_t per_variant) const;
  void store_base(const BatchRun& run, const std::vector<Verdict>& verdicts);
  void store(const BatchRun& run, size_t variant, const std::vector<Verdict>& verdicts);
  SweepResult take_result() { return std::move(result_); }

 private:
  InterventionPtr start_cut(const BatchRun& run, const std::vector<VariantCuts>& cuts) const;
  /// Can variants restart from the head outputs of this layer? (Not before a norm, nor where one
  /// mixer may read what the other wrote.)
  bool restarts_inside(int64_t layer) const;
  /// What leaves the last layer at the judged positions with each variant's heads cut in this one:
  /// [variant * row, n, d_model].
  Tensor run_rest(const BatchRun& run, const LayerRun& at, int64_t variants,
                  HeadIntervention& tap) const;
  void check_cut(const HeadIntervention& tap) const;
  void advance() {
    ++done_;
    if (options_.progress) options_.progress(done_, total_);
  }

  const LanguageModel& model_;
  const Objective& objective_;
  const SweepOptions& options_;
  Replacements replacements_;
  SweepResult result_;
  int64_t done_ = 0, total_ = 0;
};

Sweep::Sweep(const LanguageModel& model, const Objective& objective, const HeadList& heads,
             size_t variants, const SweepOptions& options)
    : model_(model),
      objective_(objective),
      options_(options),
      replacements_(model, objective,
                    options.replacements ? std::vector<int64_t>() : layers_of(heads), options.mode,
                    options.placement) {
  HEADLENS_CHECK(UsageError, options.max_batch_tokens > 0,
                 "[ablate] tokens a batch, expected at least 1, got {}", options.max_batch_tokens);
  result_.base.verdicts.resize(static_cast<size_t>(objective.example_count()));
  result_.variants.assign(variants, result_.base);
  total_ = objective.batch_count() * (static_cast<int64_t>(variants) + 1);
}

BatchRun Sweep::start_batch(int64_t index) const {
  const ObjectiveBatch& batch = objective_.batch(index);
  const Tensor resid = model_.embed(batch.ids);
  return {index,
          batch,
          resid,
          model_.prompt_of(resid),
          batch.logit_positions.to(model_.device()),
          cut_mask(objective_, batch, options_.positions),
          options_.replacements ? options_.replacements(index) : replacements_.for_batch(index)};
}

InterventionPtr Sweep::start_cut(const BatchRun& run, const std::vector<VariantCuts>& cuts) const {
  const HeadCutOptions where{options_.placement, run.cut_mask, /*keep=*/false};
  return cut_variants(model_.config(), cuts, run.given, where);
}

void Sweep::check_cut(const HeadIntervention& tap) const {
  // A prompt of one token has nothing before its query: only whole cuts must touch something.
  if (options_.positions == CutPositions::All) tap.check_touched();
}

bool Sweep::restarts_inside(int64_t layer) const {
  const auto points = head_output_points(model_.config(), layer, options_.placement);
  return points.size() == 1 && points[0].site != Site::SsmOut;
}

LayerRun Sweep::run_layer(const BatchRun& run, int64_t layer, Tensor& resid) const {
  const bool inside = restarts_inside(layer);
  OutputTap tap(model_.config(), {layer}, options_.placement);
  const Tensor entering = resid;
  resid =
      model_.run_layers(entering, layer, layer + 1, inside ? &tap : nullptr, nullptr, run.prompt);
  return {layer, entering, inside ? tap.outputs.begin()->second : Tensor()};
}

Tensor Sweep::run_rest(const BatchRun& run, const LayerRun& at, int64_t variants,
                       HeadIntervention& tap) const {
  const int64_t next = at.layer + 1, end = model_.layer_count();
  const Prompt prompt = repeated_rows(run.prompt, variants);
  Tensor resid = repeated_rows(at.resid, variants);
  if (!at.outputs.defined()) {
    return take_judged(run, model_.run_layers(resid, at.layer, end, &tap, nullptr, prompt));
  }
  const TapPoint point = head_output_point(model_.config(), at.layer, options_.placement);
  const Tensor outputs = tap.visit(point, repeated_rows(at.outputs, variants));
  if (next == end) {  // what is left goes position by position
    return model_.finish_layer(at.layer, take_judged(run, resid), take_judged(run, outputs));
  }
  resid = model_.finish_layer(at.layer, resid, outputs);
  return take_judged(run, model_.run_layers(resid, next, end, nullptr, nullptr, prompt));
}

std::vector<std::vector<Verdict>> Sweep::run_variants(const BatchRun& run, const LayerRun& at,
                                                      const std::vector<HeadId>& heads) const {
  if (options_.positions == CutPositions::SegmentsFromQuery)
    return run_reading_cuts(run, at, heads);
  VariantCuts cuts{at.layer, {}};
  for (const HeadId& head : heads) cuts.heads.push_back({group_of(head)});
  const int64_t variants = std::ssize(heads);
  const InterventionPtr tap = start_cut(run, {cuts});
  const Tensor resid = run_rest(run, at, variants, *tap);
  check_cut(*tap);
  return judge(run, resid, variants);
}

std::vector<std::vector<Verdict>> Sweep::run_reading_cuts(const BatchRun& run, const LayerRun& at,
                                                          const std::vector<HeadId>& heads) const {
  const Readings readings = segments_from_query(objective_, run.batch);
  std::vector<std::vector<Verdict>> verdicts;
  for (const HeadId& head : heads) {
    ReadingCut tap(model_.config(), head, readings);
    const Tensor resid =
        model_.run_layers(at.resid, at.layer, model_.layer_count(), &tap, nullptr, run.prompt);
    verdicts.push_back(judge(run, take_judged(run, resid), 1).front());
  }
  return verdicts;
}

std::vector<Verdict> Sweep::run_whole(const BatchRun& run, const HeadList& heads) const {
  const InterventionPtr tap = start_cut(run, cuts_of(heads));
  const Tensor resid =
      model_.run_layers(run.resid, 0, model_.layer_count(), tap.get(), nullptr, run.prompt);
  check_cut(*tap);
  return judge(run, take_judged(run, resid), 1).front();
}

std::vector<Verdict> Sweep::run_base(const BatchRun& run) const {
  const Tensor resid =
      model_.run_layers(run.resid, 0, model_.layer_count(), nullptr, nullptr, run.prompt);
  return judge(run, take_judged(run, resid), 1).front();
}

std::vector<std::vector<Verdict>> Sweep::judge(const BatchRun& run, const Tensor& resid,
                                               int64_t variants) const {
  constexpr int64_t kLogits = 1 << 26;  // held at once
  const int64_t rows = run.resid.size(0), per_variant = run.positions.numel();
  const int64_t step =
      std::clamp<int64_t>(kLogits / (per_variant * model_.config().vocab_size), 1, variants);
  std::vector<std::vector<Verdict>> verdicts;
  for (int64_t first = 0; first < variants; first += step) {
    const int64_t count = std::min(step, variants - first);
    const Tensor logits = model_.unembed(resid.narrow(0, first * rows, count * rows));
    for (auto& part : objective_.judge(run.index, logits, count)) {
      verdicts.push_back(std::move(part));
    }
  }
  return verdicts;
}

size_t Sweep::variants_at_once(int64_t per_variant) const {
  return static_cast<size_t>(std::max<int64_t>(1, options_.max_batch_tokens / per_variant));
}

void store_verdicts(const BatchRun& run, const std::vector<Verdict>& verdicts, SweepOutcome& out) {
  for (size_t i = 0; i < run.batch.examples.size(); ++i) {
    out.verdicts.at(static_cast<size_t>(run.batch.examples[i])) = verdicts.at(i);
  }
}

void Sweep::store_base(const BatchRun& run, const std::vector<Verdict>& verdicts) {
  store_verdicts(run, verdicts, result_.base);
  advance();
}

void Sweep::store(const BatchRun& run, size_t variant, const std::vector<Verdict>& verdicts) {
  store_verdicts(run, verdicts, result_.variants[variant]);
  advance();
}

/// The targets of one layer, as many at once as fit.
void sweep_layer(Sweep& sweep, const BatchRun& run, const LayerRun& at,
                 const std::vector<HeadId>& targets, const std::vector<size_t>& members) {
  const size_t step = sweep.variants_at_once(run.batch.ids.numel());
  for (size_t first = 0; first < members.size(); first += step) {
    const size_t end = std::min(first + step, members.size());
    std::vector<HeadId> heads;
    for (size_t i = first; i < end; ++i) heads.push_back(targets[members[i]]);
    const auto verdicts = sweep.run_variants(run, at, heads);
    for (size_t i = first; i < end; ++i) sweep.store(run, members[i], verdicts[i - first]);
  }
}

/// The whole-forward ways cut outputs only.
void check_cuts_outputs(const SweepOptions& options) {
  HEADLENS_CHECK(UsageError, options.positions != CutPositions::SegmentsFromQuery,
                 "[ablate] positions, expected a cut of outputs, got {}", "SegmentsFromQuery");
}

}  // namespace

SweepResult ablation_sweep(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  const auto layers = by_layer(model.config(), targets);
  Sweep sweep(model, objective, groups_of(targets), targets.size(), options);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const BatchRun run = sweep.start_batch(b);
    Tensor resid = run.resid;
    for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
      const auto members = layers.find(layer);
      if (members == layers.end()) {
        resid = model.run_layers(resid, layer, layer + 1, nullptr, nullptr, run.prompt);
      } else {
        sweep_layer(sweep, run, sweep.run_layer(run, layer, resid), targets, members->second);
      }
    }
    sweep.store_base(run, sweep.judge(run, take_judged(run, resid), 1).front());
  }
  return sweep.take_result();
}

SweepResult ablate_one_by_one(const LanguageModel& model, const Objective& objective,
                              const std::vector<HeadId>& targets, const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  check_heads(model.config(), groups_of(targets));
  check_cuts_outputs(options);
  Sweep sweep(model, objective, groups_of(targets), targets.size(), options);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const BatchRun run = sweep.start_batch(b);
    sweep.store_base(run, sweep.run_base(run));
    for (size_t t = 0; t < targets.size(); ++t) {
      sweep.store(run, t, sweep.run_whole(run, {group_of(targets[t])}));
    }
  }
  return sweep.take_result();
}

SweepResult ablate_jointly(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, bool keep,
                           const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  HeadList cut = groups_of(targets);
  check_heads(model.config(), cut);
  check_cuts_outputs(options);
  if (keep) cut = other_heads(model.config(), cut);
  Sweep sweep(model, objective, cut, 1, options);
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    const BatchRun run = sweep.start_batch(b);
    sweep.store_base(run, sweep.run_base(run));
    sweep.store(run, 0, sweep.run_whole(run, cut));
  }
  return sweep.take_result();
}

std::vector<HeadId> all_heads(const ModelConfig& config, int64_t groups) {
  HEADLENS_CHECK(UsageError, groups > 0,
                 "[find] channel groups a layer, expected at least 1, got {}", groups);
  std::vector<HeadId> heads;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    for (const HeadBank& bank : head_banks(config.layers[static_cast<size_t>(layer)])) {
      const bool channels = bank.kind == LayerKind::Mamba1;
      const int64_t entries = channels ? std::min(groups, bank.count) : bank.count;
      for (int64_t e = 0; e < entries; ++e) {
        heads.push_back({layer, bank.first + e * bank.count / entries,
                         bank.first + (e + 1) * bank.count / entries - 1});
      }
    }
  }
  return heads;
}

}  // namespace headlens
