// headlens/model: a projection with its weight and, where there is one, its bias.
#include "headlens/model/linear.h"

#include <ATen/ATen.h>

namespace headlens {

Linear::Linear(const WeightScope& weights, int64_t in, int64_t out, bool bias, bool transposed)
    : weight_(transposed ? weights.get("weight", {in, out}).t()
                         : weights.get("weight", {out, in})) {
  if (bias) bias_ = weights.get("bias", {out});
}

Tensor Linear::operator()(const Tensor& x) const {
  return at::linear(x, weight_, bias_);
}

Adapter::Adapter(const WeightScope& weights, int64_t in, int64_t rank, int64_t out)
    : down_(weights.scope("0"), in, rank, false), up_(weights.scope("1"), rank, out, false) {}

Tensor Adapter::add(const Tensor& y, const Tensor& x) const {
  return down_.weight().defined() ? y + up_(down_(x)) : y;
}

}  // namespace headlens
