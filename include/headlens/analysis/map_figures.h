// headlens/analysis: entropy, gather, aggregate and target mass of every head's map.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/analysis/compare_types.h"
#include "headlens/analysis/types.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Map figures of each target, means over the objective's examples (docs/metrics.md). One forward a
/// batch; only the rows of the last prompt token and of the segment ends are made, so memory is
/// O(rows x pos) a head. A channel group's figures are the mean over its channels. Without segments
/// only the entropy figures are set.
std::vector<MapFigures> map_figures(const LanguageModel& model, const Objective& objective,
                                    const std::vector<HeadId>& targets,
                                    const std::function<void(int64_t, int64_t)>& progress = {});

/// The figures that models are compared by, example by example, from the same forward and rows: a
/// channel group's are the means over its channels. HookError for a head that does not exist.
std::vector<HeadValues> map_values(const LanguageModel& model, const Objective& objective,
                                   const std::vector<HeadId>& targets,
                                   const std::function<void(int64_t, int64_t)>& progress = {});

/// The map of each head over one example's prompt; only its last `max_queries` rows and keys are
/// kept, of groups of channels fewer, but 384. A group gives the mean of its channels'
/// row-normalised |M|.
std::vector<MapSample> map_samples(const LanguageModel& model, const Objective& objective,
                                   int64_t example, const std::vector<HeadId>& heads,
                                   int64_t max_queries = 4096);

}  // namespace headlens
