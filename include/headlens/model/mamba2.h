// headlens/model: one Mamba-2 (SSD) mixer (arXiv 2405.21060).
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

/// h_t = exp(a dt_t) h_{t-1} + dt_t x_t B_t^T, y_t = h_t C_t + D x_t for each head, then the gated
/// norm.
class Mamba2 {
 public:
  /// Reads in_proj, conv1d, dt_bias, A_log, D, norm and out_proj below `weights`; dt_bias, A_log
  /// and D in at least float32.
  Mamba2(const Mamba2Spec& spec, int64_t d_model, const WeightScope& weights);

  /// x [batch, pos, d_model] -> [batch, pos, d_model]; goes on from `state` and updates it, if
  /// given.
  Tensor forward(const Tensor& x, const LayerTap& tap, LayerState* state,
                 const Prompt& prompt) const;
  /// The last step of forward: z [batch, pos, d_inner] -> [batch, pos, d_model].
  Tensor project(const Tensor& z) const;

  const Linear& output() const { return out_proj_; }  ///< out_proj
  std::vector<Tensor> weights() const;                ///< all there are

 private:
  Tensor step_size(const Tensor& dt_pre) const;
  Tensor scale_parts(const Tensor& projected) const;

  Mamba2Spec spec_;
  Linear in_proj_;
  Tensor conv_weight_;  // [d_conv_channels, 1, d_conv]
  Tensor conv_bias_;    // [d_conv_channels] or undefined
  Tensor dt_bias_;      // [head]
  Tensor A_log_;        // [head]
  Tensor D_;            // [head]
  Tensor norm_weight_;  // [d_inner], undefined where there is no norm
  Linear out_proj_;
};

}  // namespace headlens
