// headlens/hooks: a tap that reduces maps while they stream by.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "headlens/model/config.h"
#include "headlens/model/head_map.h"
#include "headlens/model/site.h"

namespace headlens {

/// Reduces the map of every layer that has one, attention and SSM alike, and keeps the figures.
/// Nothing dense is made: memory is O(batch x heads x row_block x keys). A second forward replaces
/// the figures of the first. Not for use by two forwards at once.
class MapReducer final : public Tap {
 public:
  using OptionsOf = std::function<MapReduceOptions(TapPoint)>;

  /// `layers` empty: every layer with a map. HookError for a layer that has none.
  MapReducer(const ModelConfig& config, MapReduceOptions options,
             const std::vector<int64_t>& layers = {});
  /// Asks for the options of each layer when its map comes by.
  MapReducer(const ModelConfig& config, OptionsOf options, const std::vector<int64_t>& layers = {});

  /// Keeps the figures in the autograd graph (default: they are computed outside it).
  void set_keep_grad(bool keep_grad) { keep_grad_ = keep_grad; }

  /// HookError if the layer was not chosen or has not fired.
  const MapStats& stats(int64_t layer) const;
  /// Layers whose maps have been reduced.
  std::vector<int64_t> layers() const;
  void clear() { stats_.clear(); }
  /// HookError naming the chosen layers that have not fired.
  void check_complete() const;

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override {
    return points_.contains({point.layer, point.site});
  }
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  std::set<std::pair<int64_t, Site>> points_;
  OptionsOf options_;
  std::map<int64_t, MapStats> stats_;
  bool keep_grad_ = false;
};

/// The point of a layer's map handle: Site::Pattern or Site::Map. HookError if the layer does not
/// exist or has none.
TapPoint map_point(const ModelConfig& config, int64_t layer);

}  // namespace headlens
