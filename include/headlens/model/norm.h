// headlens/model: the norms of layers and of the residual stream.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/core/weight_scope.h"
#include "headlens/kernels/norm.h"
#include "headlens/model/config.h"
#include "headlens/model/site.h"

namespace headlens {

/// y = weight * (x - shift) / scale + bias, statistics in at least float32. RMS norm (arXiv
/// 1910.07467): no shift, scale = sqrt(mean(x^2) + eps), no bias; Gemma's has 1 + weight. Layer
/// norm (arXiv 1607.06450): shift = mean(x), scale = sqrt(variance(x) + eps).
class Norm {
 public:
  Norm() = default;
  Norm(Tensor weight, double eps);  ///< RMS, weight [width]
  /// Reads "weight" [width] and, for a layer norm, "bias" [width] below `weights`.
  Norm(const WeightScope& weights, int64_t width, NormKind kind, double eps);

  /// x [.., width] -> the same shape in the weight's dtype. Fires `scale` [.., 1] and `normalized`
  /// [.., width].
  Tensor forward(const Tensor& x, const LayerTap& tap, Site scale, Site normalized) const;
  /// The same, seen by no tap.
  Tensor operator()(const Tensor& x) const;
  /// resid + y, and its norm with the same two sites: one pass where nobody looks.
  AddedNorm add(const Tensor& resid, const Tensor& y, const LayerTap& tap, Site scale,
                Site normalized) const;

  const Tensor& weight() const { return weight_; }  ///< [width]
  const Tensor& bias() const { return bias_; }      ///< undefined but in a layer norm
  NormKind kind() const { return kind_; }           ///< which formula
  double eps() const { return eps_; }               ///< added to the mean square

 private:
  Tensor finish(const Tensor& normalized) const;

  NormKind kind_ = NormKind::Rms;
  Tensor weight_;
  Tensor bias_;
  double eps_ = 0;
};

/// x / sqrt(mean(x^2) + eps) over the last dimension, in the dtype of x (Falcon-Mamba's norm of B,
/// C and dt).
Tensor weightless_rms_norm(const Tensor& x, double eps);

}  // namespace headlens
