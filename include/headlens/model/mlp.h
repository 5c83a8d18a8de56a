// headlens/model: the feed-forward half of a block.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/linear.h"
#include "headlens/model/site.h"

namespace headlens {

/// Gated: down(act(gate x) * up x). Plain: down(act(up x)).
class Mlp {
 public:
  /// Reads gate_proj (gated only), up_proj and down_proj below `weights`.
  Mlp(const MlpSpec& spec, int64_t d_model, const WeightScope& weights);

  /// x [batch, pos, d_model] -> [batch, pos, d_model]
  Tensor forward(const Tensor& x, const LayerTap& tap) const;

  std::vector<Tensor> weights() const;

 private:
  MlpSpec spec_;
  Linear gate_proj_;
  Linear up_proj_;
  Linear down_proj_;
};

/// [..] -> [..]
Tensor activate(const Tensor& x, Activation activation);

}  // namespace headlens
