// headlens/analysis: the heads of a group by the maps they are in.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/hooks/reducers.h"

namespace headlens {

/// Heads of one map.
struct MapGroup {
  TapPoint point;              // of the map
  int64_t first;               // the number that the map's first head has in its layer
  std::vector<int64_t> heads;  // by the map's own numbers, which start at 0
};

/// A group of heads that the model has, taken apart by map: one, or two for a group over two
/// mixers.
inline std::vector<MapGroup> map_groups(const ModelConfig& config, const HeadId& group) {
  const std::vector<TapPoint> points = map_points(config, group.layer);
  const auto banks = head_banks(config.layers[static_cast<size_t>(group.layer)]);
  std::vector<MapGroup> groups;
  for (size_t i = 0; i < banks.size(); ++i) {
    const HeadBank& bank = banks[i];
    MapGroup own{points[i], bank.first, {}};
    const int64_t end = std::min(group.last + 1, bank.first + bank.count);
    for (int64_t h = std::max(group.first, bank.first); h < end; ++h) {
      own.heads.push_back(h - bank.first);
    }
    if (!own.heads.empty()) groups.push_back(std::move(own));
  }
  return groups;
}

}  // namespace headlens
