// headlens/model: the feed-forward half of a block.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/families.h"
#include "headlens/model/linear.h"
#include "headlens/model/site.h"

namespace headlens {

/// Gated: down(act(gate x) * up x). Plain: down(act(up x)).
class Mlp {
 public:
  /// Reads its tensors below `weights` (the layer's own scope of the MLP) under the family's names;
  /// of a shared block the adapter of its `use`-th use.
  Mlp(const MlpSpec& spec, int64_t d_model, const TensorNames& names, const WeightScope& weights,
      int64_t use = 0);

  /// x [batch, pos, d_model] -> [batch, pos, d_model]
  Tensor forward(const Tensor& x, const LayerTap& tap) const;

  const MlpSpec& spec() const { return spec_; }  ///< what it was built from
  /// Weight and bias (undefined where there is none) of each projection; of the gate undefined ones
  /// in a plain MLP.
  struct Part {
    Tensor weight;  ///< [out, in]
    Tensor bias;    ///< [out]
  };
  Part gate() const;  ///< [d_mlp, d_model]
  Part up() const;    ///< [d_mlp, d_model]
  /// [d_model, d_mlp]
  Part down() const { return {down_proj_.weight(), down_proj_.bias()}; }
  std::vector<Tensor> weights() const;  ///< all there are

 private:
  Tensor gated(const Tensor& x, const LayerTap& tap) const;

  MlpSpec spec_;
  Linear gate_proj_;  // or gate and up, where they are one
  Linear up_proj_;
  Linear joined_;    // gate and up as one product, where that pays
  Adapter adapter_;  // of gate and up
  Linear down_proj_;
};

}  // namespace headlens
