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

/// Reduces every map, attention and SSM alike, and keeps the figures. Heads in the options and in
/// the figures are a map's own, counted from 0.
/// Nothing dense is made: memory is O(batch x heads x row_block x keys). A second forward replaces
/// the figures of the first. Not for use by two forwards at once.
class MapReducer final : public Tap {
 public:
  using OptionsOf = std::function<MapReduceOptions(TapPoint)>;  ///< by the map's point

  /// `layers` empty: every layer with a map. HookError for a layer that has none.
  MapReducer(const ModelConfig& config, MapReduceOptions options,
             const std::vector<int64_t>& layers = {});
  /// Asks for the options of each map when it comes by.
  MapReducer(const ModelConfig& config, OptionsOf options, const std::vector<int64_t>& layers = {});

  /// Keeps the figures in the autograd graph (default: they are computed outside it).
  void set_keep_grad(bool keep_grad) { keep_grad_ = keep_grad; }

  /// HookError if the layer was not chosen, has not fired or has two maps.
  const MapStats& stats(int64_t layer) const;
  /// Of the map at one point.
  const MapStats& stats(TapPoint point) const;
  /// Layers whose maps have been reduced.
  std::vector<int64_t> layers() const;
  void clear() { stats_.clear(); }  ///< drops all figures
  /// HookError naming the chosen layers that have not fired.
  void check_complete() const;

  bool wants(TapPoint) const override { return false; }
  Tensor visit(TapPoint, Tensor value) override { return value; }
  bool wants_map(TapPoint point) const override { return points_.contains(point); }
  void visit_map(TapPoint point, HeadMap& map) override;

 private:
  std::set<TapPoint> points_;
  OptionsOf options_;
  std::map<TapPoint, MapStats> stats_;
  bool keep_grad_ = false;
};

/// The points of a layer's map handles, Site::Pattern or Site::Map: one for each of `head_banks`.
/// HookError if the layer does not exist or has none.
std::vector<TapPoint> map_points(const ModelConfig& config, int64_t layer);
/// That of one head, whose map is there under its number less its bank's first. HookError also for
/// a head that the layer has not.
TapPoint map_point(const ModelConfig& config, int64_t layer, int64_t head);
/// That of a layer with one mixer; HookError for one with two.
TapPoint map_point(const ModelConfig& config, int64_t layer);

}  // namespace headlens
