// headlens/analysis: shows head outputs of a layer to a backward, and decides how that one goes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "headlens/analysis/attribution.h"
#include "headlens/hooks/interventions.h"
#include "headlens/kernels/attention.h"

namespace headlens {

/// The head outputs of one layer as a forward with gradients meets them.
class GradientTap final : public Tap {
 public:
  struct Output {
    Tensor clean;  // as the layer made it, as the site has it
    Tensor used;   // what the forward went on with
  };

  /// `ablated`: what heads become, by site, [head, width] or [row, pos, head, width] for the rows
  /// of this forward; none: 0. `share`: how much of the clean output is left, 1 for all of it.
  GradientTap(const ModelConfig& config, int64_t layer, Placement placement, BackwardRule rule,
              HeadOutputs ablated, double share);

  bool wants(TapPoint point) const override { return points_.contains(point); }
  Tensor visit(TapPoint point, Tensor value) override;

  /// clean - ablated: [row, pos, head, width], at least float32
  Tensor distance(TapPoint point) const;

  std::map<TapPoint, Output> outputs;

 private:
  Tensor visit_output(TapPoint point, Tensor value);
  Tensor ablated_at(TapPoint point, const Tensor& like) const;

  std::set<TapPoint> points_;
  std::optional<AttentionRule> softmax_;  // of attention whose backward goes by secants
  HeadOutputs ablated_;
  double share_;
  Tensor q_, k_, v_, gate_, linear_;
};

/// Keeps the scale of the final norm out of the gradient.
class FixedScale final : public Tap {
 public:
  bool wants(TapPoint point) const override { return point.site == Site::FinalScale; }
  Tensor visit(TapPoint, Tensor value) override { return value.detach(); }
};

}  // namespace headlens
