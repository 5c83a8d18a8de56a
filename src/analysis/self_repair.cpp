// headlens/analysis: what other heads pick up when a head is cut, by direct logit attribution.
#include "headlens/analysis/self_repair.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>

#include "analysis/batch_slots.h"
#include "analysis/direct_effects.h"
#include "analysis/judged_run.h"
#include "analysis/paired_means.h"
#include "analysis/path_taps.h"
#include "analysis/replacements.h"
#include "core/check.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/hooks/hook_set.h"

namespace headlens {
namespace {

using Values = std::vector<double>;  // [example]

/// What reaches the logit differences of a batch in one run, in float64 on the CPU.
struct Effects {
  Tensor total;               // [example]: the model's own
  Tensor frozen;              // [example]: with the final norm's scale of the clean run
  std::vector<Tensor> mlps;   // [layer] of [example]; undefined where not run, or none
  std::vector<Tensor> heads;  // [layer] of [example, head]; undefined where there are none
};

/// One batch, untouched.
struct CleanRun {
  JudgedRun run;
  QueryRows at;
  std::vector<Tensor> entering;  // [layer] of [row, pos, d_model]; undefined where not needed
  AnswerDirections directions;
  Effects effects;
};

/// What cutting one head changes.
struct Changes {
  Values total, own, heads, mlps, norm;
  std::vector<Values> entries;  // [entry]
};

HeadGroup group_of(const HeadId& head) {
  return {head.layer, head.first, head.last};
}

Tensor on_host(const Tensor& x) {
  return x.to(at::kCPU).to(at::kDouble);
}

class RepairSearch {
 public:
  RepairSearch(const LanguageModel& model, const Objective& objective,
               const std::vector<AnswerTokens>& answers, const std::vector<HeadId>& heads,
               const RepairOptions& options);
  std::vector<SelfRepair> run();

 private:
  CleanRun run_clean(int64_t index) const;
  Effects run_cut(const CleanRun& clean, const HeadId& head, const HeadOutputs& given) const;
  /// The effects of layers from .. to - 1 by what the tap saw, added to `effects`.
  void add_writes(const WritesTap& tap, int64_t from, int64_t to, const Tensor& direction,
                  Effects& effects) const;
  /// From the residual leaving the last layer, [row, pos, d_model].
  void add_output(const Tensor& normalized, const Tensor& resid, const AnswerDirections& directions,
                  Effects& effects) const;
  SiteTensors final_norm(const Tensor& resid) const;
  void store(const ObjectiveBatch& batch, size_t head, const Effects& clean, Effects cut);
  SelfRepair result_of(size_t head) const;

  const LanguageModel& model_;
  const Objective& objective_;
  const std::vector<AnswerTokens>& answers_;
  const std::vector<HeadId>& heads_;
  const RepairOptions& options_;
  Replacements replacements_;
  std::vector<HeadId> entries_;   // heads, or groups of channels, that are told apart
  std::vector<Changes> changes_;  // [head]
};

constexpr TapPoint kFinalScale{Site::FinalScale, -1};
constexpr TapPoint kFinalNormalized{Site::FinalNormalized, -1};

std::vector<int64_t> layers_of(const std::vector<HeadId>& heads) {
  std::vector<int64_t> layers;
  for (const HeadId& head : heads) layers.push_back(head.layer);
  return layers;
}

RepairSearch::RepairSearch(const LanguageModel& model, const Objective& objective,
                           const std::vector<AnswerTokens>& answers,
                           const std::vector<HeadId>& heads, const RepairOptions& options)
    : model_(model),
      objective_(objective),
      answers_(answers),
      heads_(heads),
      options_(options),
      replacements_(model, objective, layers_of(heads), options.mode, options.placement),
      entries_(all_heads(model.config(), options.mamba1_groups)) {
  const Values none(answers.size(), 0.0);
  const Changes empty{none, none, none, none, none, std::vector<Values>(entries_.size(), none)};
  changes_.assign(heads.size(), empty);
}

void RepairSearch::add_writes(const WritesTap& tap, int64_t from, int64_t to,
                              const Tensor& direction, Effects& effects) const {
  effects.heads.resize(static_cast<size_t>(model_.layer_count()));
  effects.mlps.resize(effects.heads.size());
  for (int64_t layer = from; layer < to; ++layer) {
    std::vector<Tensor> banks;
    for (const HeadBank& bank : head_banks(model_.config().layers[static_cast<size_t>(layer)])) {
      const Site site = bank.kind == LayerKind::Attention ? Site::Z : Site::MixerZ;
      const auto seen = tap.writes.find({site, layer});
      banks.push_back(seen == tap.writes.end()  // a shared block's attention writes to its mixer
                          ? at::zeros({direction.size(0), bank.count}, at::kDouble)
                          : on_host(head_effects(model_, layer, bank, seen->second, direction)));
    }
    if (!banks.empty()) effects.heads[static_cast<size_t>(layer)] = at::cat(banks, 1);
    const auto mlp = tap.writes.find({Site::MlpOut, layer});
    if (mlp == tap.writes.end()) continue;
    effects.mlps[static_cast<size_t>(layer)] =
        on_host((mlp->second * direction.to(mlp->second.device())).sum(-1));
  }
}

SiteTensors RepairSearch::final_norm(const Tensor& resid) const {
  KeepSites norm({kFinalScale, kFinalNormalized});
  model_.unembed(resid, &norm);
  return std::move(norm.kept);
}

void RepairSearch::add_output(const Tensor& normalized, const Tensor& resid,
                              const AnswerDirections& directions, Effects& effects) const {
  effects.total = on_host((normalized * directions.unembed).sum(-1));
  effects.frozen = on_host((resid.to(directions.residual.device()) * directions.residual).sum(-1));
}

CleanRun RepairSearch::run_clean(int64_t index) const {
  CleanRun clean{JudgedRun(model_, objective_, index), {}, {}, {}, {}};
  const ObjectiveBatch& batch = clean.run.batch();
  clean.at = query_rows(objective_, batch);
  const int64_t end = model_.layer_count();
  clean.entering.resize(static_cast<size_t>(end));
  WritesTap writes(model_.config(), clean.at);
  Tensor resid = clean.run.resid();
  for (int64_t layer = 0; layer < end; ++layer) {
    const bool needed = std::any_of(heads_.begin(), heads_.end(),
                                    [&](const HeadId& head) { return head.layer == layer; });
    if (needed) clean.entering[static_cast<size_t>(layer)] = resid;
    resid = model_.run_layers(resid, layer, layer + 1, &writes, nullptr, clean.run.prompt());
  }
  const Tensor last = clean.at.take(resid);
  SiteTensors norm = final_norm(last);
  std::vector<AnswerTokens> answers;
  for (const int64_t example : batch.examples) {
    answers.push_back(answers_[static_cast<size_t>(example)]);
  }
  clean.directions = answer_directions(model_, answers, norm.at(kFinalScale));
  add_writes(writes, 0, end, clean.directions.residual, clean.effects);
  add_output(norm.at(kFinalNormalized), last, clean.directions, clean.effects);
  return clean;
}

Effects RepairSearch::run_cut(const CleanRun& clean, const HeadId& head,
                              const HeadOutputs& given) const {
  const HeadCutOptions where{options_.placement, {}, /*keep=*/false};
  const InterventionPtr cut =
      cut_variants(model_.config(), cuts_of({group_of(head)}), given, where);
  WritesTap writes(model_.config(), clean.at);
  TapChain taps({cut.get(), &writes});
  const Tensor resid =
      model_.run_layers(clean.entering[static_cast<size_t>(head.layer)], head.layer,
                        model_.layer_count(), &taps, nullptr, clean.run.prompt());
  cut->check_touched();
  const Tensor last = clean.at.take(resid);
  Effects effects;
  add_writes(writes, head.layer, model_.layer_count(), clean.directions.residual, effects);
  add_output(final_norm(last).at(kFinalNormalized), last, clean.directions, effects);
  return effects;
}

void RepairSearch::store(const ObjectiveBatch& batch, size_t head, const Effects& clean,
                         Effects cut) {
  Changes& changes = changes_[head];
  const HeadId& id = heads_[head];
  const auto put = [&](const Tensor& change, Values& values) {
    const auto read = change.accessor<double, 1>();
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      values[static_cast<size_t>(batch.examples[i])] = read[static_cast<int64_t>(i)];
    }
  };
  const Tensor total = cut.total - clean.total;
  Tensor others = at::zeros_like(total), mlps = at::zeros_like(total);
  for (size_t layer = static_cast<size_t>(id.layer); layer < cut.heads.size(); ++layer) {
    if (cut.mlps[layer].defined()) mlps += cut.mlps[layer] - clean.mlps[layer];
    if (!cut.heads[layer].defined()) continue;
    Tensor& change = cut.heads[layer] -= clean.heads[layer];
    if (static_cast<int64_t>(layer) == id.layer) {
      Tensor own = change.slice(1, id.first, id.last + 1);
      put(own.sum(1), changes.own);
      own.zero_();
    }
    others += change.sum(1);
  }
  put(total, changes.total);
  put(others, changes.heads);
  put(mlps, changes.mlps);
  put(total - (cut.frozen - clean.frozen), changes.norm);
  for (size_t e = 0; e < entries_.size(); ++e) {
    const HeadId& entry = entries_[e];
    if (entry.layer < id.layer) continue;
    const Tensor& change = cut.heads[static_cast<size_t>(entry.layer)];
    put(change.slice(1, entry.first, entry.last + 1).sum(1), changes.entries[e]);
  }
}

SelfRepair RepairSearch::result_of(size_t head) const {
  const Changes& c = changes_[head];
  SelfRepair result{heads_[head],
                    mean_estimate(c.total),
                    mean_estimate(c.own),
                    mean_estimate(c.heads),
                    mean_estimate(c.mlps),
                    mean_estimate(c.norm),
                    {},
                    {}};
  if (result.own.high < 0) {
    result.repaired = ratio_estimate(c.heads, c.own);
    Estimate& r = *result.repaired;
    r = {-r.value, -r.high, -r.low};
  }
  for (size_t e = 0; e < entries_.size(); ++e) {
    const bool later = entries_[e].layer >= heads_[head].layer && !(entries_[e] == heads_[head]);
    if (later) result.top.push_back({entries_[e], mean_estimate(c.entries[e])});
  }
  std::stable_sort(result.top.begin(), result.top.end(),
                   [](const HeadChange& a, const HeadChange& b) {
                     return std::abs(a.change.value) > std::abs(b.change.value);
                   });
  result.top.resize(std::min(result.top.size(), static_cast<size_t>(options_.top)));
  return result;
}

std::vector<SelfRepair> RepairSearch::run() {
  const int64_t total = objective_.batch_count() * std::ssize(heads_);
  int64_t done = 0;
  BatchSlots slots;
  for (Changes& c : changes_) {
    for (Values* values : {&c.total, &c.own, &c.heads, &c.mlps, &c.norm}) slots.add(*values);
    for (Values& values : c.entries) slots.add(values);
  }
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    slots.fill(options_.steps, "self-repair", objective_, b, [&] {
      const CleanRun clean = run_clean(b);
      const HeadOutputs given = replacements_.for_batch(b);
      for (size_t h = 0; h < heads_.size(); ++h) {
        store(clean.run.batch(), h, clean.effects, run_cut(clean, heads_[h], given));
        if (options_.progress) options_.progress(++done, total);
      }
    });
  }
  std::vector<SelfRepair> results;
  for (size_t h = 0; h < heads_.size(); ++h) results.push_back(result_of(h));
  return results;
}

}  // namespace

std::vector<SelfRepair> self_repair(const LanguageModel& model, const Objective& objective,
                                    const std::vector<AnswerTokens>& answers,
                                    const std::vector<HeadId>& heads,
                                    const RepairOptions& options) {
  c10::NoGradGuard no_grad;
  for (const HeadId& head : heads) check_heads(model.config(), {group_of(head)});
  check_replaces(options.mode);
  check_direct_writes("self_repair", model.config());
  check_answers("self_repair", model.config(), objective, answers);
  HEADLENS_CHECK(UsageError, options.top >= 0,
                 "[self_repair] heads listed, expected at least 0, got {}", options.top);
  return RepairSearch(model, objective, answers, heads, options).run();
}

}  // namespace headlens
