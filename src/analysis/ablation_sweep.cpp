// headlens/analysis: what a task loses when heads are switched off, many variants a batch.
#include "headlens/analysis/ablation_sweep.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "analysis/batch_rows.h"
#include "analysis/batch_run.h"
#include "analysis/reading_cut.h"
#include "analysis/replacements.h"
#include "analysis/sweep_memory.h"
#include "analysis/target_taps.h"
#include "core/check.h"
#include "core/out_of_memory.h"
#include "headlens/model/block.h"
#include "headlens/model/token_logprobs.h"

namespace headlens {
namespace {

using Verdicts = std::vector<std::vector<Verdict>>;  // [variant][example of the batch]

/// Targets that can share batches: they start in the same layer, in the same way.
struct Group {
  std::vector<size_t> members;  // into the targets
  bool inside = false;          // from the layer's head outputs on; else they run the whole layer
  bool alone = false;           // one after another
};

/// The first layer that a target changes anything in.
int64_t first_layer(const SweepTarget& target) {
  int64_t first = INT64_MAX;
  for (const HeadId& head : target.heads) first = std::min(first, head.layer);
  for (const int64_t layer : target.mlps) first = std::min(first, layer);
  for (const MapCut& cut : target.maps) first = std::min(first, cut.layer);
  return first;
}

Tensor cut_mask(const Objective& objective, const ObjectiveBatch& batch, CutPositions where) {
  if (where == CutPositions::InSegments) return segments_of_rows(objective, batch);
  if (where != CutPositions::FromQuery && where != CutPositions::BeforeQuery) return {};
  const Tensor query = query_of_rows(objective, batch).unsqueeze(1);  // [row, 1]
  const Tensor position = at::arange(batch.ids.size(1), at::kLong);
  return where == CutPositions::FromQuery ? position.ge(query) : position.lt(query);
}

TargetList pointers(const std::vector<SweepTarget>& targets) {
  TargetList all;
  for (const SweepTarget& target : targets) all.push_back(&target);
  return all;
}

/// What cuts do in one batch, as its parts have it.
struct BatchCuts {
  Tensor trunk_mask, rest_mask;         // bool [row, pos]; undefined: everywhere
  HeadOutputs trunk_given, rest_given;  // in place of cut outputs; empty: zeros
};

/// One sweep: what it was asked for, its result so far, and the progress.
class Sweep {
 public:
  Sweep(const LanguageModel& model, const Objective& objective,
        const std::vector<SweepTarget>& targets, const SweepOptions& options);

  /// Every target from where it starts; rows that begin alike are run once.
  SweepResult run();
  /// Every target in whole forwards of whole rows.
  SweepResult run_one_by_one();

 private:
  void check_targets() const;
  std::map<int64_t, std::vector<Group>> plan() const;
  int64_t largest_group() const;
  Trunks shared_trunks() const;
  BatchCuts cuts_of(const BatchRun& run) const;
  bool reads() const { return options_.positions == CutPositions::SegmentsFromQuery; }
  /// Can variants restart from the head outputs of this layer? (Not before a norm, nor where one
  /// mixer may read what the other wrote.)
  bool restarts_inside(int64_t layer) const;

  void run_group(const BatchRun& run, const BatchCuts& cuts, const Group& group);
  /// What leaves the last layer with each target in its variant: [variant * row, slot, d_model].
  Tensor run_batched(const BatchRun& run, const BatchCuts& cuts, const TargetList& targets,
                     bool inside) const;
  /// The same for one target with what it cuts of maps and readings.
  Tensor run_alone(const BatchRun& run, const BatchCuts& cuts, const SweepTarget& target) const;
  Verdicts judge(const BatchRun& run, const Tensor& leaving, int64_t variants) const;
  void store(const BatchRun& run, const std::vector<Verdict>& verdicts, SweepOutcome& out);

  const LanguageModel& model_;
  const Objective& objective_;
  const std::vector<SweepTarget>& targets_;
  const SweepOptions& options_;
  const std::map<int64_t, std::vector<Group>> layers_;
  BatchPlanner planner_;
  Replacements replacements_;
  SweepResult result_;
  int64_t done_ = 0, total_ = 0;
};

Sweep::Sweep(const LanguageModel& model, const Objective& objective,
             const std::vector<SweepTarget>& targets, const SweepOptions& options)
    : model_(model),
      objective_(objective),
      targets_(targets),
      options_(options),
      layers_(plan()),
      planner_(model, options, largest_group()),
      replacements_(model, objective,
                    options.replacements
                        ? std::vector<TapPoint>()
                        : cut_points(model.config(), pointers(targets), options.placement),
                    options.mode) {
  result_.base.verdicts.resize(static_cast<size_t>(objective.example_count()));
  result_.variants.assign(targets.size(), result_.base);
  total_ = objective.batch_count() * (std::ssize(targets) + 1);
}

void Sweep::check_targets() const {
  HEADLENS_CHECK(UsageError,
                 options_.mode != AblationMode::Scale ||
                     (std::isfinite(options_.factor) && options_.factor != 1),
                 "[ablate] factor to scale by, expected a number other than 1, got {}",
                 options_.factor);
  cut_points(model_.config(), pointers(targets_), options_.placement);
  for (const SweepTarget& target : targets_) {
    HEADLENS_CHECK(HookError, first_layer(target) != INT64_MAX,
                   "[ablate] heads to cut, expected at least one, got {}", "none");
    check_map_cuts(model_.config(), objective_, target);
    HEADLENS_CHECK(UsageError, !reads() || (target.mlps.empty() && target.maps.empty()),
                   "[ablate] positions of MLPs and maps, expected a cut of outputs, got {}",
                   "SegmentsFromQuery");
  }
}

bool Sweep::restarts_inside(int64_t layer) const {
  if (!model_.block(layer).grafted_heads().empty()) return false;  // they read the residual
  const auto points = head_output_points(model_.config(), layer, options_.placement);
  return points.size() == 1 && points[0].site != Site::SsmOut;
}

/// The targets of each layer in groups.
std::map<int64_t, std::vector<Group>> Sweep::plan() const {
  check_targets();
  std::map<int64_t, std::vector<Group>> layers;
  for (size_t t = 0; t < targets_.size(); ++t) {
    const SweepTarget& target = targets_[t];
    const int64_t layer = first_layer(target);
    const bool cuts_mlp =
        std::find(target.mlps.begin(), target.mlps.end(), layer) != target.mlps.end();
    const bool alone = reads() || !target.maps.empty();
    const bool inside = !alone && !cuts_mlp && restarts_inside(layer);
    std::vector<Group>& groups = layers[layer];
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return g.inside == inside && g.alone == alone;
    });
    if (group == groups.end()) group = groups.insert(groups.end(), Group{{}, inside, alone});
    group->members.push_back(t);
  }
  return layers;
}

int64_t Sweep::largest_group() const {
  int64_t largest = 1;
  for (const auto& [layer, groups] : layers_) {
    for (const Group& group : groups) largest = std::max(largest, std::ssize(group.members));
  }
  return largest;
}

BatchCuts Sweep::cuts_of(const BatchRun& run) const {
  const Tensor mask = cut_mask(objective_, run.batch(), options_.positions);
  BatchCuts cuts{run.of_trunk(mask), run.of_rest(mask), {}, {}};
  const HeadOutputs given = options_.replacements ? options_.replacements(run.index())
                                                  : replacements_.for_batch(run.index());
  for (const auto& [point, outputs] : given) {
    const bool same_everywhere = outputs.dim() == 2;
    cuts.trunk_given[point] = same_everywhere ? outputs : run.of_trunk(outputs);
    cuts.rest_given[point] = same_everywhere ? outputs : run.of_rest(outputs);
  }
  return cuts;
}

Tensor Sweep::run_batched(const BatchRun& run, const BatchCuts& cuts, const TargetList& targets,
                          bool inside) const {
  const ModelConfig& config = model_.config();
  const TargetTaps trunk(config, targets, options_, cuts.trunk_mask, cuts.trunk_given);
  const TargetTaps rest(config, targets, options_, cuts.rest_mask, cuts.rest_given);
  Tensor leaving = run.run_variants(std::ssize(targets), inside, {trunk.tap(), rest.tap()});
  // A prompt of one token has nothing before its query: only whole cuts must touch something.
  if (options_.positions == CutPositions::All) trunk.check_touched();
  return leaving;
}

Tensor Sweep::run_alone(const BatchRun& run, const BatchCuts& cuts,
                        const SweepTarget& target) const {
  std::vector<std::unique_ptr<ReadingCut>> readings;
  std::unique_ptr<MapIntervention> maps;
  std::unique_ptr<TargetTaps> outputs;
  std::vector<Tap*> taps;
  if (reads()) {
    for (const HeadId& head : target.heads) {
      const Readings entries = segments_from_query(objective_, run.batch());
      readings.push_back(std::make_unique<ReadingCut>(model_.config(), head, entries));
      taps.push_back(readings.back().get());
    }
  } else if (!target.heads.empty() || !target.mlps.empty()) {
    outputs = std::make_unique<TargetTaps>(model_.config(), TargetList{&target}, options_,
                                           cuts.trunk_mask, cuts.trunk_given);
    taps.push_back(outputs->tap());
  }
  if (!target.maps.empty()) {
    maps = std::make_unique<MapIntervention>(model_.config(),
                                             map_edits(objective_, run.batch(), target));
    taps.push_back(maps.get());
  }
  TapChain chain(taps);
  return run.run_variants(1, /*inside=*/false, {&chain, nullptr});
}

Verdicts Sweep::judge(const BatchRun& run, const Tensor& leaving, int64_t variants) const {
  const Tensor tokens = objective_.judged_tokens(run.index());
  if (tokens.defined()) {
    return objective_.judge_tokens(run.index(), token_logprobs(model_, leaving, tokens, variants));
  }
  constexpr int64_t kLogits = 1 << 26;  // held at once
  const int64_t rows = leaving.size(0) / variants;
  const int64_t per_variant = rows * leaving.size(1) * model_.config().vocab_size;
  const int64_t step = std::clamp<int64_t>(kLogits / per_variant, 1, variants);
  Verdicts verdicts;
  for (int64_t first = 0; first < variants; first += step) {
    const int64_t count = std::min(step, variants - first);
    const Tensor logits = model_.unembed(leaving.narrow(0, first * rows, count * rows));
    for (auto& part : objective_.judge(run.index(), logits, count)) {
      verdicts.push_back(std::move(part));
    }
  }
  return verdicts;
}

void Sweep::store(const BatchRun& run, const std::vector<Verdict>& verdicts, SweepOutcome& out) {
  const std::vector<int64_t>& examples = run.batch().examples;
  for (size_t i = 0; i < examples.size(); ++i) {
    out.verdicts.at(static_cast<size_t>(examples[i])) = verdicts.at(i);
  }
  ++done_;
  if (options_.progress) options_.progress(done_, total_);
}

/// Variants whose rows' copies of the trunks' states fit in a fixed share of a GPU: where rows go
/// on by a few tokens only, tokens say nothing of them (an 8B SSM keeps 150 MB a row).
int64_t most_by_states(const BatchRun& run) {
  constexpr int64_t kBytes = int64_t{16} << 30;
  return run.state_bytes() == 0 ? INT64_MAX : std::max<int64_t>(1, kBytes / run.state_bytes());
}

/// The targets of one group, as many at once as fit.
void Sweep::run_group(const BatchRun& run, const BatchCuts& cuts, const Group& group) {
  size_t first = 0;
  while (first < group.members.size()) {
    const int64_t left = std::ssize(group.members) - static_cast<int64_t>(first);
    const int64_t count =
        group.alone ? 1 : std::min({left, planner_.next(run.tokens()), most_by_states(run)});
    TargetList targets;
    for (int64_t i = 0; i < count; ++i) {
      targets.push_back(&targets_[group.members[first + static_cast<size_t>(i)]]);
    }
    Verdicts verdicts;
    try {
      planner_.begin();
      const Tensor leaving = group.alone ? run_alone(run, cuts, *targets.front())
                                         : run_batched(run, cuts, targets, group.inside);
      verdicts = judge(run, leaving, count);
      planner_.end(count * run.tokens());
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e) || !planner_.ran_out(count, run.tokens())) throw;
      continue;
    }
    for (const auto& of_variant : verdicts) {
      store(run, of_variant, result_.variants[group.members[first++]]);
    }
  }
}

/// Examples share a trunk where the same is done to all of them before they part.
Trunks Sweep::shared_trunks() const {
  for (const auto& [layer, groups] : layers_) {
    for (const Group& group : groups) {
      if (group.alone) return Trunks::None;
    }
  }
  const bool by_example = options_.mode == AblationMode::Resample || options_.replacements ||
                          options_.positions != CutPositions::All;
  return by_example ? Trunks::OfExamples : Trunks::Any;
}

SweepResult Sweep::run() {
  const Trunks trunks = shared_trunks();
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    BatchRun run(model_, objective_, b, trunks);
    const BatchCuts cuts = cuts_of(run);
    for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
      const auto found = layers_.find(layer);
      const auto groups = found == layers_.end() ? std::vector<Group>{} : found->second;
      const bool inside = std::any_of(groups.begin(), groups.end(),
                                      [](const Group& group) { return group.inside; });
      std::optional<TapPoint> outputs;
      if (inside) outputs = head_output_point(model_.config(), layer, options_.placement);
      run.run_layer(outputs);
      for (const Group& group : groups) run_group(run, cuts, group);
      run.advance();
    }
    store(run, judge(run, run.leaving(), 1).front(), result_.base);
  }
  result_.memory = planner_.memory();
  return std::move(result_);
}

SweepResult Sweep::run_one_by_one() {
  HEADLENS_CHECK(UsageError, !reads(), "[ablate] positions, expected a cut of outputs, got {}",
                 "SegmentsFromQuery");
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    const BatchRun run(model_, objective_, b, Trunks::None);
    const BatchCuts cuts = cuts_of(run);
    store(run, judge(run, run.run_whole({}), 1).front(), result_.base);
    for (size_t t = 0; t < targets_.size(); ++t) {
      const Tensor leaving = run_alone(run, cuts, targets_[t]);
      store(run, judge(run, leaving, 1).front(), result_.variants[t]);
    }
  }
  return std::move(result_);
}

}  // namespace

SweepResult sweep_targets(const LanguageModel& model, const Objective& objective,
                          const std::vector<SweepTarget>& targets, const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  return Sweep(model, objective, targets, options).run();
}

SweepResult targets_one_by_one(const LanguageModel& model, const Objective& objective,
                               const std::vector<SweepTarget>& targets,
                               const SweepOptions& options) {
  c10::NoGradGuard no_grad;
  return Sweep(model, objective, targets, options).run_one_by_one();
}

SweepResult ablation_sweep(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, const SweepOptions& options) {
  return sweep_targets(model, objective, one_each(targets), options);
}

SweepResult ablate_one_by_one(const LanguageModel& model, const Objective& objective,
                              const std::vector<HeadId>& targets, const SweepOptions& options) {
  return targets_one_by_one(model, objective, one_each(targets), options);
}

SweepResult ablate_jointly(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& targets, bool keep,
                           const SweepOptions& options) {
  SweepTarget target{.heads = targets};
  HeadList groups;
  for (const HeadId& head : targets) groups.push_back({head.layer, head.first, head.last});
  check_heads(model.config(), groups);
  if (keep) {
    target.heads.clear();
    for (const HeadGroup& other : other_heads(model.config(), groups)) {
      target.heads.push_back({other.layer, other.first, other.last});
    }
  }
  HEADLENS_CHECK(UsageError, options.positions != CutPositions::SegmentsFromQuery,
                 "[ablate] positions, expected a cut of outputs, got {}", "SegmentsFromQuery");
  return sweep_targets(model, objective, {target}, options);
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
