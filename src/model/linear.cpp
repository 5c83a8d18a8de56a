// headlens/model: a projection with its weight and, where there is one, its bias.
#include "headlens/model/linear.h"

#include <ATen/ATen.h>

namespace headlens {

Linear::Linear(const WeightScope& weights, int64_t in, int64_t out, bool bias, bool transposed)
    : weight_(transposed ? weights.get("weight", {in, out}).t()
                         : weights.get("weight", {out, in})) {
  if (bias) bias_ = weights.get("bias", {out});
}

Linear Linear::joined(const WeightScope& weights, const std::vector<std::string>& names, int64_t in,
                      const std::vector<int64_t>& out, bool bias) {
  Linear all;
  if (!weights.device().is_cuda()) return all;
  std::vector<WeightScope::Part> matrices, biases;
  for (size_t i = 0; i < names.size(); ++i) {
    matrices.push_back({names[i] + ".weight", {out[i], in}});
    biases.push_back({names[i] + ".bias", {out[i]}});
  }
  all.weight_ = weights.get_joined(matrices);
  if (bias) all.bias_ = weights.get_joined(biases);
  return all;
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
