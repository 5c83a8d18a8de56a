// headlens/cli: what `prune` found, as JSON, CSV and text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "headlens/analysis/pruning.h"
#include "headlens/tasks/types.h"

namespace headlens::cli {

/// One task of a prune: retrieval tasks decide what is minimal, the others stand against them.
struct PrunedTask {
  TaskInfo info;
  bool against = false;
  double chance = 0;
  std::vector<SweepOutcome> curve;          // [layers kept]
  std::vector<SweepOutcome> without_layer;  // [layer]; empty: not asked for
};

/// All of it.
struct PruneFound {
  int64_t layers = 0;  // of the whole model
  std::vector<PrunedTask> tasks;
  DepthRule rule;
  std::optional<int64_t> minimal;  // layers
  int64_t full_bytes = 0, minimal_bytes = 0;
  std::vector<HeadId> off;                       // throughout
  std::vector<HeadId> gather, aggregate, given;  // heads of the contrast, found or named
  std::vector<ContrastRow> contrast;             // empty: not asked for
};

Json prune_json(const PruneFound& found);
/// A line for each model and task: part (depth, without_layer, contrast), model, layers, task,
/// accuracy with its interval, and the rest.
std::string prune_csv(const PruneFound& found);
std::string prune_text(const PruneFound& found);

}  // namespace headlens::cli
