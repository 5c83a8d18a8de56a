// headlens/model: a projection with its weight and, where there is one, its bias.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/core/weight_scope.h"

namespace headlens {

/// y = x W^T + b.
class Linear {
 public:
  Linear() = default;
  /// Reads "weight" [out, in] and, if `bias`, "bias" [out] below `weights`. `transposed`: the file
  /// has the weight as [in, out] (GPT-2).
  Linear(const WeightScope& weights, int64_t in, int64_t out, bool bias, bool transposed = false);

  /// x [.., in] -> [.., out]
  Tensor operator()(const Tensor& x) const;

  /// One product in place of several of the same input, `names` below `weights` with `out` rows
  /// each, where that pays: on CUDA. Elsewhere an undefined Linear, and nothing is read.
  static Linear joined(const WeightScope& weights, const std::vector<std::string>& names,
                       int64_t in, const std::vector<int64_t>& out, bool bias);
  bool defined() const { return weight_.defined(); }  ///< false: there is none

  const Tensor& weight() const { return weight_; }  ///< [out, in]
  const Tensor& bias() const { return bias_; }      ///< [out], undefined where there is none

 private:
  Tensor weight_;
  Tensor bias_;
};

/// A low-rank addition to a projection: y = x down^T up^T.
class Adapter {
 public:
  Adapter() = default;
  /// Reads "0.weight" [rank, in] and "1.weight" [out, rank] below `weights`.
  Adapter(const WeightScope& weights, int64_t in, int64_t rank, int64_t out);

  /// y + what the adapter adds for x; y as it is for an adapter that is not there.
  Tensor add(const Tensor& y, const Tensor& x) const;

  std::vector<Tensor> weights() const {
    return {down_.weight(), up_.weight()};
  }  ///< of both matrices

 private:
  Linear down_;
  Linear up_;
};

}  // namespace headlens
