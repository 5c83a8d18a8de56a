// headlens/model: the taps that put a grafted head in the place of one of a mixer's own.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/mul.h>

#include <utility>

#include "headlens/core/dtype.h"
#include "headlens/model/site.h"

namespace headlens {

inline bool is_head_output(Site site) {
  return site == Site::Z || site == Site::MixerZ;
}

/// Keeps what the heads of one mixer put out.
class KeptHeads : public Tap {
 public:
  bool wants(TapPoint point) const override { return is_head_output(point.site); }
  Tensor visit(TapPoint, Tensor value) override { return z = std::move(value); }

  Tensor z;  // [batch, pos, head..]
};

/// Between a mixer and the tap of its layer: heads that were replaced are off whatever that tap put
/// there, and what an SSM mixer shows as its output has what the grafted heads wrote.
class GraftTap : public Tap {
 public:
  /// own_heads [d_inner], 0 where a head is off; written [batch, pos, d_model].
  GraftTap(const LayerTap& outer, Tensor own_heads, Tensor written)
      : outer_(outer), own_heads_(std::move(own_heads)), written_(std::move(written)) {}

  bool wants(TapPoint point) const override {
    return is_head_output(point.site) || point.site == Site::MixerOut || outer_.wants(point.site);
  }
  Tensor visit(TapPoint point, Tensor value) override {
    if (point.site == Site::MixerOut) value = value + written_;
    if (outer_.wants(point.site)) value = outer_(point.site, value);
    return is_head_output(point.site) ? value * own_heads_.view(value.sizes().slice(2)) : value;
  }
  bool wants_map(TapPoint point) const override { return outer_.wants_map(point.site); }
  void visit_map(TapPoint point, HeadMap& map) override { outer_.visit_map(point.site, map); }

 private:
  LayerTap outer_;
  Tensor own_heads_;
  Tensor written_;
};

}  // namespace headlens
