// headlens/model: root-mean-square normalisation (arXiv 1910.07467).
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/core/weight_scope.h"
#include "headlens/model/site.h"

namespace headlens {

/// y = weight * x / scale with scale = sqrt(mean(x^2) + eps), statistics in at least float32.
class RmsNorm {
 public:
  RmsNorm() = default;
  RmsNorm(Tensor weight, double eps);  // weight [width]
  /// Reads "weight" [width] below `weights`.
  RmsNorm(const WeightScope& weights, int64_t width, double eps);

  /// x [.., width] -> the same shape in the weight's dtype. Fires `scale` [.., 1] and `normalized`
  /// [.., width].
  Tensor forward(const Tensor& x, const LayerTap& tap, Site scale, Site normalized) const;

  const Tensor& weight() const { return weight_; }

 private:
  Tensor weight_;
  double eps_ = 0;
};

/// x / sqrt(mean(x^2) + eps) over the last dimension, in the dtype of x (Falcon-Mamba's norm of B,
/// C and dt).
Tensor weightless_rms_norm(const Tensor& x, double eps);

/// Mamba-2's gated norm: weight * rms_norm(x * silu(gate)), statistics over each of `groups` equal
/// parts of the last dimension. x, gate [batch, pos, d_inner]; the result is in at least float32.
Tensor gated_rms_norm(const Tensor& x, const Tensor& gate, const Tensor& weight, double eps,
                      int64_t groups);

}  // namespace headlens
