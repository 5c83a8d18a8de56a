// headlens/analysis: what one variant of a sweep changes in the model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/model/config.h"

namespace headlens {

/// Entries M_ij taken out of a layer's maps.
struct MapCut {
  int64_t layer = 0;                   ///< from 0
  std::vector<int64_t> heads = {};     ///< by the layer's numbers; empty: those of all its maps
  std::vector<int64_t> segments = {};  ///< j: the prompt's segments of these indices; empty: all
  std::vector<int64_t> keys = {};      ///< j in place of segments: prompt positions, -1 is the last
  bool from_query = true;              ///< i: from the last prompt token on; else every position
  bool renormalize = false;            ///< softmax only: what is left of a row sums to 1 again
};

/// What is changed together: any heads, MLPs and map entries. Heads and MLPs are cut in the sweep's
/// mode; map entries are taken out whatever the mode.
struct SweepTarget {
  std::vector<HeadId> heads = {};  ///< attention and SSM heads, channels, groups; of any layers
  std::vector<int64_t> mlps = {};  ///< layers whose MLP's output is cut
  std::vector<MapCut> maps = {};   ///< entries taken out
};

/// Every head of these layers, as one target. HookError for a layer without heads.
SweepTarget whole_layers(const ModelConfig& config, const std::vector<int64_t>& layers);
/// All heads of the model but these. HookError for a head that does not exist.
SweepTarget all_but(const ModelConfig& config, const std::vector<HeadId>& heads);
/// Each head a target of its own.
std::vector<SweepTarget> one_each(const std::vector<HeadId>& heads);

}  // namespace headlens
