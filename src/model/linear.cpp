// headlens/model: a projection with its weight and, where there is one, its bias.
#include "headlens/model/linear.h"

#include <ATen/ATen.h>

namespace headlens {

Linear::Linear(const WeightScope& weights, int64_t in, int64_t out, bool bias)
    : weight_(weights.get("weight", {out, in})) {
  if (bias) bias_ = weights.get("bias", {out});
}

Tensor Linear::operator()(const Tensor& x) const {
  return at::linear(x, weight_, bias_);
}

}  // namespace headlens
