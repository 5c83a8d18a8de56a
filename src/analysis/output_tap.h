// headlens/analysis: keeps the head outputs of chosen layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <set>
#include <vector>

#include "headlens/hooks/interventions.h"

namespace headlens {

/// Keeps what it sees where heads are cut, as the site has it: [row, pos, head, width], or [row,
/// pos, channel].
class OutputTap final : public Tap {
 public:
  OutputTap(const ModelConfig& config, const std::vector<int64_t>& layers, Placement placement) {
    for (const int64_t layer : layers) {
      for (const TapPoint point : head_output_points(config, layer, placement)) {
        points_.insert(point);
      }
    }
  }
  explicit OutputTap(const std::vector<TapPoint>& points) : points_(points.begin(), points.end()) {}
  bool wants(TapPoint point) const override { return points_.contains(point); }
  Tensor visit(TapPoint point, Tensor value) override { return outputs[point] = value; }

  HeadOutputs outputs;

 private:
  std::set<TapPoint> points_;
};

}  // namespace headlens
