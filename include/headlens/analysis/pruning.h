// headlens/analysis: how many layers a task needs, and what the heads of a cut model carry of it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/estimates.h"
#include "headlens/analysis/types.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// What is off while layers are left out.
struct PruneOptions {
  /// Heads that are off throughout, zeroed at their output, by the whole model's numbers.
  std::vector<HeadId> off = {};
  Placement placement = Placement::PostNorm;  ///< where `off` heads are cut
  /// Called with (done, total) batches; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
};

/// The model's first `layers` layers, its final norm and its head: a view, whose weights are the
/// model's own tensors. ShapeError unless it has so many.
LanguageModel first_layers(const LanguageModel& model, int64_t layers);

/// The task with the first k layers only, [k] for k from 0 (the embedding alone) to all of them: as
/// `first_layers` would score. One forward of the whole model for all depths: what leaves each
/// layer goes to the final norm at the judged positions. HookError for heads that do not exist.
std::vector<SweepOutcome> depth_curve(const LanguageModel& model, const Objective& objective,
                                      const PruneOptions& options = {});

/// The task without one layer, [layer]: its mixers and its MLP write nothing, as in
/// `LanguageModel::with_layers` of the others. About half a forward for each. HookError as above.
std::vector<SweepOutcome> leave_one_layer_out(const LanguageModel& model,
                                              const Objective& objective,
                                              const PruneOptions& options = {});

/// What counts as still doing the task.
struct DepthRule {
  double tolerance = 0.05;               ///< accuracy that may be lost of the whole model's
  std::optional<double> threshold = {};  ///< in its place: the accuracy that is to be reached
  /// The accuracy asked for, by the whole model's.
  double least(double full) const { return threshold ? *threshold : full - tolerance; }
};

/// The fewest layers at which every task (curves of depth_curve) has at least the accuracy asked
/// for; at each smaller number one of them has collapsed. Nothing if none has it anywhere.
/// ShapeError for curves of unlike length, or none.
std::optional<int64_t> minimal_depth(const std::vector<std::vector<SweepOutcome>>& curves,
                                     const DepthRule& rule);

/// One model of a contrast: how it does on each task.
struct ContrastRow {
  std::string name;                 ///< "full", "minimal", "without heads"
  int64_t layers = 0;               ///< of this model
  std::vector<SweepOutcome> tasks;  ///< [objective]
};

/// The whole model ("full"), its first `layers` ("minimal"), and those with `heads` zeroed
/// ("without heads"; absent where there are none), on each task. `options.off` is off in all three.
/// HookError for a head that is not in the first layers.
std::vector<ContrastRow> contrast(const LanguageModel& model, int64_t layers,
                                  const std::vector<HeadId>& heads,
                                  const std::vector<const Objective*>& objectives,
                                  const PruneOptions& options = {});

}  // namespace headlens
