// headlens/model: one DiscreteMamba2 mixer, as Llamba has it (arXiv 2502.14458).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/linear.h"
#include "headlens/model/prompt.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// h_t = exp(-softplus(A_log_t)) h_{t-1} + x_t B_t^T, y_t = h_t C_t + D x_t; out_proj(y * silu(z +
/// z_bias)).
class DiscreteMamba2 {
 public:
  /// Reads in_proj, z_bias (only where in_proj has no bias), conv1d, D and out_proj below
  /// `weights`; D in at least float32.
  DiscreteMamba2(const DiscreteMamba2Spec& spec, int64_t d_model, const WeightScope& weights);

  /// x [batch, pos, d_model] -> [batch, pos, d_model]; goes on from `state` and updates it, if
  /// given.
  Tensor forward(const Tensor& x, const LayerTap& tap, LayerState* state,
                 const Prompt& prompt) const;
  /// The last step of forward: z [batch, pos, d_inner] -> [batch, pos, d_model].
  Tensor project(const Tensor& z) const;

  const Linear& output() const { return out_proj_; }  ///< out_proj
  std::vector<Tensor> weights() const;                ///< all there are

 private:
  DiscreteMamba2Spec spec_;
  Linear in_proj_;
  Tensor z_bias_;       // [d_inner] or undefined
  Tensor conv_weight_;  // [d_conv_channels, 1, d_conv]
  Tensor conv_bias_;    // [d_conv_channels] or undefined
  Tensor D_;            // [head]
  Linear out_proj_;
};

}  // namespace headlens
