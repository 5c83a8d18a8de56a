// headlens/hooks: means of head outputs over a reference set.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "headlens/hooks/interventions.h"

namespace headlens {

/// A tap that averages head outputs over a reference set, in float64, for `replace_heads`.
class MeanActivations final : public Tap {
 public:
  /// `layers` empty: every layer with heads.
  explicit MeanActivations(const ModelConfig& config, const std::vector<int64_t>& layers = {},
                           Placement placement = Placement::PostNorm);
  /// Chosen sites of shape [batch, pos, head, width] or [batch, pos, width], whose means then are
  /// [head, width] or [width, 1].
  explicit MeanActivations(const std::vector<TapPoint>& points);
  /// bool [batch, pos]: the positions of the next forwards that count (not padding); undefined:
  /// all.
  void set_valid(Tensor valid) { valid_ = std::move(valid); }
  /// layer -> [head, width] (Mamba-1: width 1), float64. HookError if a layer has seen no position
  /// or has two mixers.
  std::map<int64_t, Tensor> means() const;
  /// The same for all layers, by site.
  HeadOutputs point_means() const;

  bool wants(TapPoint point) const override;
  Tensor visit(TapPoint point, Tensor value) override;

 private:
  struct Sum {
    Tensor total;  // [head, width] float64
    int64_t count = 0;
  };
  std::map<TapPoint, Sum> sums_;
  Tensor valid_;
};

}  // namespace headlens
