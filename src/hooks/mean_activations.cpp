// headlens/hooks: means of head outputs over a reference set.
#include "headlens/hooks/mean_activations.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "hooks/head_outputs.h"

namespace headlens {

MeanActivations::MeanActivations(const ModelConfig& config, const std::vector<int64_t>& layers,
                                 Placement placement) {
  const auto add = [&](int64_t layer) {
    for (const TapPoint point : head_output_points(config, layer, placement)) sums_[point];
  };
  for (const int64_t layer : layers) add(layer);
  if (!layers.empty()) return;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    if (head_count(config.layers[static_cast<size_t>(layer)]) > 0) add(layer);
  }
}

MeanActivations::MeanActivations(const std::vector<TapPoint>& points) {
  for (const TapPoint point : points) sums_[point];
}

bool MeanActivations::wants(TapPoint point) const {
  return sums_.contains(point);
}

Tensor MeanActivations::visit(TapPoint point, Tensor value) {
  Sum& sum = sums_.at(point);
  Tensor outputs = as_heads(value.detach()).flatten(0, 1);  // [batch * pos, head, width]
  if (valid_.defined()) {
    HEADLENS_CHECK(ShapeError, valid_.sizes() == value.sizes().slice(0, 2),
                   "[means] valid positions, expected {}, got {}",
                   shape_string(value.sizes().slice(0, 2)), shape_string(valid_.sizes()));
    const Tensor rows = valid_.to(outputs.device(), at::kBool).flatten().nonzero().flatten();
    outputs = outputs.index_select(0, rows);
  }
  const Tensor added = outputs.to(at::kDouble).sum(0);
  sum.total = sum.total.defined() ? sum.total + added : added;
  sum.count += outputs.size(0);
  return value;
}

std::map<int64_t, Tensor> MeanActivations::means() const {
  std::map<int64_t, Tensor> all;
  for (auto& [point, mean] : point_means()) {
    HEADLENS_CHECK(HookError, all.emplace(point.layer, mean).second,
                   "[means] layer {}, expected one mixer, got two: ask for point_means",
                   point.layer);
  }
  return all;
}

HeadOutputs MeanActivations::point_means() const {
  HeadOutputs all;
  for (const auto& [point, sum] : sums_) {
    HEADLENS_CHECK(HookError, sum.count > 0,
                   "[means] {}, expected at least one position to average, got none",
                   site_name(point));
    all.emplace(point, sum.total / static_cast<double>(sum.count));
  }
  return all;
}

}  // namespace headlens
