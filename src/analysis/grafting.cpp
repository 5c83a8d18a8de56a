// headlens/analysis: what a task gains when layers or heads of another model are put in.
#include "headlens/analysis/grafting.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "analysis/batch_slots.h"
#include "analysis/judged_run.h"
#include "core/check.h"
#include "headlens/hooks/interventions.h"

namespace headlens {
namespace {

void check_plan(const GraftPlan& plan) {
  HEADLENS_CHECK(UsageError, plan.layers.empty() != plan.heads.empty(),
                 "[graft] plan, expected layers or heads, got {}",
                 plan.layers.empty() ? "none" : "both");
}

int64_t first_layer(const GraftPlan& plan) {
  int64_t first = INT64_MAX;
  for (const LayerGraft& graft : plan.layers) first = std::min(first, graft.recipient);
  for (const HeadGraft& graft : plan.heads) first = std::min(first, graft.recipient.layer);
  return first;
}

/// The recipient without what a plan replaces: layers that are gone, heads that a tap cuts.
struct Control {
  LanguageModel model;
  InterventionPtr cut;  // may be null
};

Control control_of(const LanguageModel& recipient, const GraftPlan& plan) {
  HeadList heads;
  for (const HeadGraft& graft : plan.heads) {
    heads.push_back({graft.recipient.layer, graft.recipient.head, graft.recipient.head});
  }
  std::vector<int64_t> stay;
  for (int64_t layer = 0; layer < recipient.layer_count(); ++layer) {
    const auto at = std::find_if(plan.layers.begin(), plan.layers.end(),
                                 [&](const auto& graft) { return graft.recipient == layer; });
    if (at == plan.layers.end() || at->mixer_only) stay.push_back(layer);
    if (at == plan.layers.end() || !at->mixer_only) continue;
    heads.push_back(
        {layer, 0, head_count(recipient.config().layers[static_cast<size_t>(layer)]) - 1});
  }
  Control control{recipient.with_layers(stay), nullptr};
  // A plan has whole layers or heads: numbers are those of the recipient wherever heads are cut.
  if (!heads.empty()) control.cut = zero_heads(recipient.config(), heads);
  return control;
}

void check_one_depth(const ModelConfig& recipient, const ModelConfig& donor) {
  HEADLENS_CHECK(UsageError, recipient.layers.size() == donor.layers.size(),
                 "[graft] layers of the donor, expected {} as in the recipient to try each, got {}",
                 recipient.layers.size(), donor.layers.size());
}

/// What a plan is tried with.
struct Tried {
  LanguageModel grafted;
  Control control;
  int64_t first_layer;  // that is not the recipient's
};

std::vector<Tried> models_of(const LanguageModel& recipient, const LanguageModel& donor,
                             const std::vector<GraftPlan>& plans) {
  std::vector<Tried> tried;
  tried.reserve(plans.size());
  for (const GraftPlan& plan : plans) {
    tried.push_back(
        {grafted_model(recipient, donor, plan), control_of(recipient, plan), first_layer(plan)});
  }
  return tried;
}

/// One batch through the recipient, and through each plan's models from its first layer on.
void run_batch(const LanguageModel& recipient, const std::vector<Tried>& tried,
               const Objective& objective, int64_t b, const std::function<void()>& one_done,
               GraftTrials& trials) {
  const JudgedRun run(recipient, objective, b);
  Tensor resid = run.resid();
  for (int64_t layer = 0; layer < recipient.layer_count(); ++layer) {
    for (size_t p = 0; p < tried.size(); ++p) {
      const auto& [model, control, first] = tried[p];
      if (first != layer) continue;
      const JudgedRun grafted(model, objective, b), cut(control.model, objective, b);
      run.store(grafted.finish(layer, resid).front(), trials.plans[p].grafted);
      run.store(cut.finish(layer, resid, control.cut.get()).front(), trials.plans[p].cut);
      one_done();
    }
    resid = recipient.run_layers(resid, layer, layer + 1, nullptr, nullptr, run.prompt());
  }
  run.store(run.finish(recipient.layer_count(), resid).front(), trials.base);
  one_done();
}

}  // namespace

std::vector<GraftPlan> each_layer(const ModelConfig& recipient, const ModelConfig& donor,
                                  bool mixer_only) {
  check_one_depth(recipient, donor);
  std::vector<GraftPlan> plans;
  for (int64_t layer = 0; layer < std::ssize(recipient.layers); ++layer) {
    plans.push_back({.layers = {{layer, layer, mixer_only}}});
  }
  return plans;
}

std::vector<GraftPlan> each_head(const ModelConfig& recipient, const ModelConfig& donor) {
  check_one_depth(recipient, donor);
  std::vector<GraftPlan> plans;
  for (size_t layer = 0; layer < recipient.layers.size(); ++layer) {
    const int64_t own = head_count(recipient.layers[layer]);
    const int64_t theirs = head_count(donor.layers[layer]);
    HEADLENS_CHECK(UsageError, own == theirs,
                   "[graft] heads of the donor's layer {}, expected {} as in the recipient's to "
                   "try each, got {}",
                   layer, own, theirs);
    for (int64_t head = 0; head < own; ++head) {
      const HeadPlace place{static_cast<int64_t>(layer), head};
      plans.push_back({.heads = {{place, place}}});
    }
  }
  HEADLENS_CHECK(UsageError, !plans.empty(), "[graft] heads, expected some, got {}", "none");
  return plans;
}

LanguageModel grafted_model(const LanguageModel& recipient, const LanguageModel& donor,
                            const GraftPlan& plan) {
  check_plan(plan);
  return plan.heads.empty() ? graft_layers(recipient, donor, plan.layers)
                            : graft_heads(recipient, donor, plan.heads);
}

GraftTrials try_grafts(const LanguageModel& recipient, const LanguageModel& donor,
                       const Objective& objective, const std::vector<GraftPlan>& plans,
                       const std::function<void(int64_t, int64_t)>& progress,
                       const KeptSteps& steps) {
  const c10::NoGradGuard no_grad;
  const std::vector<Tried> tried = models_of(recipient, donor, plans);
  const SweepOutcome empty = empty_outcome(objective);
  GraftTrials trials{empty, std::vector<GraftOutcome>(plans.size(), {empty, empty})};
  int64_t done = 0;
  const int64_t total = objective.batch_count() * (std::ssize(plans) + 1);
  const auto one_done = [&] {
    if (progress) progress(++done, total);
  };
  BatchSlots slots;
  slots.add(trials.base);
  for (GraftOutcome& plan : trials.plans) slots.add(plan.grafted), slots.add(plan.cut);
  bool ran = false;  // not where all is known from before
  for (int64_t b = 0; b < objective.batch_count(); ++b) {
    slots.fill(steps, "grafts", objective, b, [&] {
      ran = true;
      run_batch(recipient, tried, objective, b, one_done, trials);
    });
  }
  for (const Tried& one : tried) {
    if (one.control.cut && ran) one.control.cut->check_touched();
  }
  return trials;
}

}  // namespace headlens
