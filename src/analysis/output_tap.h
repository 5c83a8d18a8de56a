// headlens/analysis: keeps the head outputs of chosen layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "headlens/hooks/interventions.h"

namespace headlens {

/// Keeps what it sees where heads are cut, as the site has it: [row, pos, head, width], or [row,
/// pos, channel].
class OutputTap final : public Tap {
 public:
  OutputTap(const ModelConfig& config, const std::vector<int64_t>& layers, Placement placement) {
    for (const int64_t layer : layers) {
      points_[layer] = head_output_point(config, layer, placement);
    }
  }
  bool wants(TapPoint point) const override {
    const auto found = points_.find(point.layer);
    return found != points_.end() && found->second == point;
  }
  Tensor visit(TapPoint point, Tensor value) override { return outputs[point.layer] = value; }

  std::map<int64_t, Tensor> outputs;  // layer ->

 private:
  std::map<int64_t, TapPoint> points_;
};

}  // namespace headlens
