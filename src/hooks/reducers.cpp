// headlens/hooks: a tap that reduces maps while they stream by.
#include "headlens/hooks/reducers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/check.h"

namespace headlens {
namespace {

TapPoint point_of(const HeadBank& bank, int64_t layer) {
  return {bank.kind == LayerKind::Attention ? Site::Pattern : Site::Map, layer};
}

}  // namespace

std::vector<TapPoint> map_points(const ModelConfig& config, int64_t layer) {
  const int64_t count = std::ssize(config.layers);
  HEADLENS_CHECK(HookError, 0 <= layer && layer < count, "[map] layer, expected 0 to {}, got {}",
                 count - 1, layer);
  std::vector<TapPoint> points;
  for (const HeadBank& bank : head_banks(config.layers[static_cast<size_t>(layer)])) {
    points.push_back(point_of(bank, layer));
  }
  HEADLENS_CHECK(HookError, !points.empty(),
                 "[map] layer, expected one with a mixer, got {} (MLP only)", layer);
  return points;
}

TapPoint map_point(const ModelConfig& config, int64_t layer, int64_t head) {
  map_points(config, layer);  // is there one?
  const LayerSpec& spec = config.layers[static_cast<size_t>(layer)];
  const HeadBank bank = bank_of(spec, head);
  HEADLENS_CHECK(HookError, bank.count > 0, "[map] head, expected 0 to {} in layer {}, got {}",
                 head_count(spec) - 1, layer, head);
  return point_of(bank, layer);
}

TapPoint map_point(const ModelConfig& config, int64_t layer) {
  const std::vector<TapPoint> points = map_points(config, layer);
  HEADLENS_CHECK(HookError, points.size() == 1, "[map] layer {}, expected one map, got {} ({})",
                 layer, points.size(), layer_kind_name(config.layers[static_cast<size_t>(layer)]));
  return points.front();
}

MapReducer::MapReducer(const ModelConfig& config, MapReduceOptions options,
                       const std::vector<int64_t>& layers)
    : MapReducer(
          config, [options = std::move(options)](TapPoint) { return options; }, layers) {}

MapReducer::MapReducer(const ModelConfig& config, OptionsOf options,
                       const std::vector<int64_t>& layers)
    : options_(std::move(options)) {
  const auto add = [&](int64_t layer) {
    for (const TapPoint point : map_points(config, layer)) points_.insert(point);
  };
  for (const int64_t layer : layers) add(layer);
  if (!layers.empty()) return;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    if (head_count(config.layers[static_cast<size_t>(layer)]) > 0) add(layer);
  }
}

const MapStats& MapReducer::stats(int64_t layer) const {
  const auto found = stats_.lower_bound({Site{}, layer});
  HEADLENS_CHECK(HookError, found != stats_.end() && found->first.layer == layer,
                 "[reduce] layer, expected one whose map was reduced ({}), got {}",
                 stats_.empty() ? "none yet" : fmt::format("{}", fmt::join(this->layers(), ", ")),
                 layer);
  const auto next = std::next(found);
  HEADLENS_CHECK(HookError, next == stats_.end() || next->first.layer != layer,
                 "[reduce] layer {}, expected one map, got {} and {}: ask for one of them", layer,
                 site_name(found->first), site_name(next->first));
  return found->second;
}

const MapStats& MapReducer::stats(TapPoint point) const {
  const auto found = stats_.find(point);
  HEADLENS_CHECK(HookError, found != stats_.end(),
                 "[reduce] map, expected one that was reduced, got {}", site_name(point));
  return found->second;
}

std::vector<int64_t> MapReducer::layers() const {
  std::vector<int64_t> all;
  for (const auto& [point, stats] : stats_) {
    if (all.empty() || all.back() != point.layer) all.push_back(point.layer);
  }
  return all;
}

void MapReducer::check_complete() const {
  std::vector<std::string> missing;
  for (const TapPoint point : points_) {
    if (!stats_.contains(point)) missing.push_back(site_name(point));
  }
  HEADLENS_CHECK(HookError, missing.empty(),
                 "[reduce] maps, expected each to fire, got no call of {}",
                 fmt::join(missing, ", "));
}

void MapReducer::visit_map(TapPoint point, HeadMap& map) {
  const c10::AutoGradMode grad(keep_grad_ && c10::GradMode::is_enabled());
  stats_[point] = map.reduce(options_(point));
}

}  // namespace headlens
