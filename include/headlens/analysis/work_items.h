// headlens/analysis: sweeps and map figures cut into work items, for a pool to do.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/map_figures.h"
#include "headlens/analysis/screening.h"
#include "headlens/analysis/work_pool.h"

namespace headlens {

/// Some of a sweep: targets of neighbouring layers, on one batch of the objective.
struct SweepItem {
  int64_t batch = 0;            ///< of the objective
  std::vector<size_t> targets;  ///< indices, by layer
};

/// Cuts a sweep into items, batch by batch. Each costs about `forwards` times its batch's own
/// forward, which every item repeats (a target of layer l counts as (layers - l) / layers), so the
/// repetition costs 1 / forwards of the work; near the end an eighth of what is left, down to
/// forwards / 8, so that no process waits long for the last one. How many processes there are
/// changes nothing: the numbers would round differently.
std::vector<SweepItem> sweep_items(int64_t layers, int64_t batches,
                                   const std::vector<HeadId>& targets, int64_t forwards = 32);

/// `ablation_sweep` by a pool. The same results, up to the rounding of
/// products of other sizes; with the modes Mean and Resample the whole objective is the reference
/// all the same. `options.replacements` cannot be given: what it returns is not in the items' keys.
/// `examples` goes into them: it says which ones `objective` has, where not all of the run's.
SweepResult pooled_sweep(WorkPool& pool, const LanguageModel& model, const Objective& objective,
                         const std::vector<HeadId>& targets, const SweepOptions& options = {},
                         const std::string& examples = {});

/// `map_figures` by a pool, an item a batch.
std::vector<MapFigures> pooled_map_figures(WorkPool& pool, const LanguageModel& model,
                                           const Objective& objective,
                                           const std::vector<HeadId>& targets,
                                           const WorkPool::Progress& progress = {});

/// `sweep_targets` through a pool: each batch is an item.
SweepResult pooled_targets(WorkPool& pool, const LanguageModel& model, const Objective& objective,
                           const std::vector<SweepTarget>& targets, const SweepOptions& options);

/// The estimates of a screen, made by one of the processes, so that all of them choose the same
/// heads.
ScreenEstimates pooled_estimates(WorkPool& pool, const std::function<ScreenEstimates()>& estimate);

}  // namespace headlens
