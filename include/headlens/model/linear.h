// headlens/model: a projection with its weight and, where there is one, its bias.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/core/weight_scope.h"

namespace headlens {

/// y = x W^T + b.
class Linear {
 public:
  Linear() = default;
  /// Reads "weight" [out, in] and, if `bias`, "bias" [out] below `weights`.
  Linear(const WeightScope& weights, int64_t in, int64_t out, bool bias);

  /// x [.., in] -> [.., out]
  Tensor operator()(const Tensor& x) const;

  const Tensor& weight() const { return weight_; }  // [out, in]
  const Tensor& bias() const { return bias_; }      // [out], undefined where there is none

 private:
  Tensor weight_;
  Tensor bias_;
};

}  // namespace headlens
