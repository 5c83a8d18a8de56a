// headlens/hooks: a tap that reduces maps while they stream by.
#include "headlens/hooks/reducers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/check.h"

namespace headlens {

TapPoint map_point(const ModelConfig& config, int64_t layer) {
  const int64_t count = std::ssize(config.layers);
  HEADLENS_CHECK(HookError, 0 <= layer && layer < count, "[map] layer, expected 0 to {}, got {}",
                 count - 1, layer);
  const LayerKind kind = layer_kind(config.layers[static_cast<size_t>(layer)]);
  HEADLENS_CHECK(HookError, kind != LayerKind::None,
                 "[map] layer, expected one with a mixer, got {} (MLP only)", layer);
  return {kind == LayerKind::Attention ? Site::Pattern : Site::Map, layer};
}

MapReducer::MapReducer(const ModelConfig& config, MapReduceOptions options,
                       const std::vector<int64_t>& layers)
    : MapReducer(
          config, [options = std::move(options)](TapPoint) { return options; }, layers) {}

MapReducer::MapReducer(const ModelConfig& config, OptionsOf options,
                       const std::vector<int64_t>& layers)
    : options_(std::move(options)) {
  for (const int64_t layer : layers) points_.insert({layer, map_point(config, layer).site});
  if (!layers.empty()) return;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    if (head_count(config.layers[static_cast<size_t>(layer)]) == 0) continue;
    points_.insert({layer, map_point(config, layer).site});
  }
}

const MapStats& MapReducer::stats(int64_t layer) const {
  const auto found = stats_.find(layer);
  HEADLENS_CHECK(HookError, found != stats_.end(),
                 "[reduce] layer, expected one whose map was reduced ({}), got {}",
                 stats_.empty() ? "none yet" : fmt::format("{}", fmt::join(this->layers(), ", ")),
                 layer);
  return found->second;
}

std::vector<int64_t> MapReducer::layers() const {
  std::vector<int64_t> all;
  for (const auto& [layer, stats] : stats_) all.push_back(layer);
  return all;
}

void MapReducer::check_complete() const {
  std::vector<std::string> missing;
  for (const auto& [layer, site] : points_) {
    if (!stats_.contains(layer)) missing.push_back(site_name({site, layer}));
  }
  HEADLENS_CHECK(HookError, missing.empty(),
                 "[reduce] maps, expected each to fire, got no call of {}",
                 fmt::join(missing, ", "));
}

void MapReducer::visit_map(TapPoint point, HeadMap& map) {
  const c10::AutoGradMode grad(keep_grad_ && c10::GradMode::is_enabled());
  stats_[point.layer] = map.reduce(options_(point));
}

}  // namespace headlens
