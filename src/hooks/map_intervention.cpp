// headlens/hooks: interventions on the entries of a layer's map.
#include <ATen/ATen.h>

#include <optional>

#include "core/check.h"
#include "headlens/hooks/interventions.h"
#include "headlens/hooks/reducers.h"
#include "hooks/head_outputs.h"

namespace headlens {
namespace {

/// A mask of MapEdit as [batch or 1, size] on the CPU; undefined: all.
Tensor as_rows(const Tensor& mask, int64_t size) {
  if (!mask.defined()) return at::ones({1, size}, at::kLong);
  return mask.to(at::kCPU, at::kLong).reshape({-1, size});
}

/// Entries on or below the diagonal that the edit covers.
int64_t entries_covered(const HeadMap& map, const MapEdit& edit) {
  const Tensor rows = as_rows(edit.rows, map.queries());
  const Tensor keys_up_to = as_rows(edit.keys, map.keys()).cumsum(1);
  const Tensor seen = keys_up_to.slice(1, map.first_query(), map.keys());  // [.., query]
  const Tensor covered = rows * seen;
  const int64_t heads = edit.heads.empty() ? map.heads() : std::ssize(edit.heads);
  return covered.sum().item<int64_t>() * heads * (map.batch() / covered.size(0));
}

/// The part of an edit by the layer's numbers that falls to one bank, by the map's own; nothing if
/// no head of it is named.
std::optional<MapEdit> part_of(const MapEdit& edit, const HeadBank& bank) {
  MapEdit part = edit;
  part.heads.clear();
  for (const int64_t head : edit.heads) {
    const int64_t own = head - bank.first;
    if (0 <= own && own < bank.count) part.heads.push_back(own);
  }
  if (part.heads.empty() && !edit.heads.empty()) return std::nullopt;
  if (edit.custom && bank.first > 0) {
    part.custom = [custom = edit.custom, first = bank.first](Tensor rows, const MapBlock& block) {
      MapBlock numbered = block;
      for (int64_t& head : numbered.heads) head += first;
      return custom(std::move(rows), numbered);
    };
  }
  return part;
}

}  // namespace

MapIntervention::MapIntervention(const ModelConfig& config,
                                 const std::vector<LayerMapEdit>& edits) {
  HEADLENS_CHECK(HookError, !edits.empty(), "[ablate] map edits, expected at least one, got none");
  for (const auto& [layer, edit] : edits) {
    const std::vector<TapPoint> points = map_points(config, layer);
    for (const int64_t head : edit.heads) check_heads(config, {HeadRef{layer, head}});
    const auto banks = head_banks(config.layers[static_cast<size_t>(layer)]);
    for (size_t i = 0; i < banks.size(); ++i) {
      if (auto part = part_of(edit, banks[i]))
        items_.push_back({points[i], std::move(*part), 0, 0});
    }
  }
}

bool MapIntervention::wants_map(TapPoint point) const {
  return std::any_of(items_.begin(), items_.end(),
                     [&](const Item& item) { return item.point == point; });
}

void MapIntervention::visit_map(TapPoint point, HeadMap& map) {
  for (Item& item : items_) {
    if (!(item.point == point)) continue;
    map.edit(item.edit);
    ++item.fired;
    item.touched += entries_covered(map, item.edit);
  }
}

void MapIntervention::check_touched() const {
  for (const Item& item : items_) check_one_touched(item.point, item.fired, item.touched);
}

void MapIntervention::reset() {
  for (Item& item : items_) item.fired = item.touched = 0;
}

Tensor mask_of_positions(int64_t length, const std::vector<int64_t>& positions) {
  Tensor mask = at::zeros({length}, at::kBool);
  for (const int64_t position : positions) {
    HEADLENS_CHECK(ShapeError, -length <= position && position < length,
                   "[mask] position, expected {} to {}, got {}", -length, length - 1, position);
    mask[position < 0 ? position + length : position] = true;
  }
  return mask;
}

Tensor mask_of_segments(int64_t length, const std::vector<PromptSegment>& segments) {
  Tensor mask = at::zeros({length}, at::kBool);
  for (const auto& [start, end] : segments) {
    HEADLENS_CHECK(ShapeError, 0 <= start && start <= end && end < length,
                   "[mask] segment, expected a range within 0 to {}, got {} to {}", length - 1,
                   start, end);
    mask.slice(0, start, end + 1).fill_(true);
  }
  return mask;
}

}  // namespace headlens
