// headlens/analysis: what a task gains when layers or heads of another model are put in.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/analysis/estimates.h"
#include "headlens/core/kept_steps.h"
#include "headlens/model/graft.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Layers, or heads, that are put in together.
struct GraftPlan {
  std::vector<LayerGraft> layers = {};  ///< put in first
  std::vector<HeadGraft> heads = {};    ///< put in after them
  bool operator==(const GraftPlan&) const = default;
};

/// A plan's task, and its control: the recipient with nothing in the places (its heads cut; of a
/// mixer all heads; a layer left out).
struct GraftOutcome {
  SweepOutcome grafted;  ///< with the donor's parts
  SweepOutcome cut;      ///< with nothing in their place
};

/// Plans tried one by one.
struct GraftTrials {
  SweepOutcome base;                ///< the recipient as it is
  std::vector<GraftOutcome> plans;  ///< one per plan, in order
};

/// Every plan for the same layers, or the same heads, of both models, one at a time: layers (of
/// mixers alone, where `mixer_only`) need as many in both, heads as many in each layer. UsageError
/// otherwise, and where no layer has heads.
std::vector<GraftPlan> each_layer(const ModelConfig& recipient, const ModelConfig& donor,
                                  bool mixer_only);
/// The latter: every head by itself.
std::vector<GraftPlan> each_head(const ModelConfig& recipient, const ModelConfig& donor);

/// The recipient with a plan's layers or heads (model/graft.h). UsageError for a plan of both, or
/// of nothing.
LanguageModel grafted_model(const LanguageModel& recipient, const LanguageModel& donor,
                            const GraftPlan& plan);

/// Runs the task on the recipient, and from the first layer that a plan changes on for each plan
/// and its control. `progress` gets (done, total) runs and may throw to stop; a
/// batch is a step. Errors as above and
/// of model/graft.h.
GraftTrials try_grafts(const LanguageModel& recipient, const LanguageModel& donor,
                       const Objective& objective, const std::vector<GraftPlan>& plans,
                       const std::function<void(int64_t, int64_t)>& progress = {},
                       const KeptSteps& steps = {});

}  // namespace headlens
