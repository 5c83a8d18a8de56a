// headlens/analysis: map figures, roles and the circuit: which heads gather, which aggregate.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/screening.h"
#include "headlens/analysis/sequential.h"
#include "headlens/analysis/types.h"

namespace headlens {

class WorkPool;

/// How `find_gather_aggregate` searches.
struct FindOptions {
  SweepOptions sweep;           ///< zero, mean or resample
  std::vector<HeadId> heads;    ///< empty: every head; else only these, no two alike
  int64_t mamba1_groups = 16;   ///< contiguous channel groups a layer to start with
  bool refine_channels = true;  ///< bisect groups that matter down to single channels
  int64_t map_samples = 8;      ///< maps kept for the report, strongest heads first
  double min_drop = 0.02;       ///< a role needs at least this much accuracy
  /// Estimate all heads by attribution and ablate the first of them only: the others have no
  /// accuracy, no role and no map figures. Instead of `heads`; channels are ablated one by one.
  std::optional<ScreenOptions> screen;
  /// Stop testing heads that are sure not to reach min_drop; zero ablation only.
  std::optional<SequentialLooks> sequential;
  /// Called with (stage, done, total); may throw to stop.
  std::function<void(const char* stage, int64_t done, int64_t total)> progress;
  /// Shares sweeps and map figures with other processes and keeps their results; null: all of it
  /// here and now. Only the process that leads gets map samples.
  WorkPool* pool = nullptr;
};

/// The main job: every head ablated; entropy, gather, aggregate and target of every map; roles and
/// circuit by the rule of docs/metrics.md. Per-head figures are means over examples. HookError for
/// a head that does not exist, TaskError for an objective without examples.
FindResult find_gather_aggregate(const LanguageModel& model, const Objective& objective,
                                 const FindOptions& options = {});

/// A result with the model described and nothing measured: what `map` puts on a page.
FindResult describe_model(const LanguageModel& model);

/// The kind of the mixer that a head belongs to, as in HeadScore::kind.
std::string head_kind_name(const ModelConfig& config, const HeadId& head);

/// The rule: what makes a head a Gather or an Aggregate head.
HeadRole assign_role(const HeadScore& score, double min_drop);

}  // namespace headlens
