// headlens/hooks: means of head outputs over a reference set.
#include <ATen/ATen.h>

#include "core/check.h"
#include "headlens/hooks/interventions.h"
#include "hooks/head_outputs.h"

namespace headlens {

MeanActivations::MeanActivations(const ModelConfig& config, const std::vector<int64_t>& layers,
                                 Placement placement) {
  for (const int64_t layer : layers) {
    sums_.insert({layer, {head_output_point(config, layer, placement), {}, 0}});
  }
  if (!layers.empty()) return;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    if (head_count(config.layers[static_cast<size_t>(layer)]) == 0) continue;
    sums_.insert({layer, {head_output_point(config, layer, placement), {}, 0}});
  }
}

bool MeanActivations::wants(TapPoint point) const {
  const auto sum = sums_.find(point.layer);
  return sum != sums_.end() && sum->second.point == point;
}

Tensor MeanActivations::visit(TapPoint point, Tensor value) {
  Sum& sum = sums_.at(point.layer);
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
  for (const auto& [layer, sum] : sums_) {
    HEADLENS_CHECK(HookError, sum.count > 0,
                   "[means] {}, expected at least one position to average, got none",
                   site_name(sum.point));
    all.emplace(layer, sum.total / static_cast<double>(sum.count));
  }
  return all;
}

}  // namespace headlens
