// headlens/model: one Mamba-1 (S6) mixer (arXiv 2312.00752).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/linear.h"
#include "headlens/model/norm.h"
#include "headlens/model/prompt.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, y_t = C_t h_t + D x_t, for each channel by itself.
/// With `bcdt_rms_eps` dt's low rank, B and C pass an RMS norm (Falcon-Mamba; Jamba's have
/// weights).
class Mamba1 {
 public:
  /// Reads in_proj, conv1d, x_proj, dt_proj, A_log, D and out_proj below `weights` (and, where they
  /// have weights, dt_layernorm, b_layernorm and c_layernorm); A_log, D and
  /// dt's bias in at least float32.
  Mamba1(const Mamba1Spec& spec, int64_t d_model, const WeightScope& weights);

  /// x [batch, pos, d_model] -> [batch, pos, d_model]; goes on from `state` and updates it, if
  /// given.
  Tensor forward(const Tensor& x, const LayerTap& tap, LayerState* state,
                 const Prompt& prompt) const;
  /// The last step of forward: z [batch, pos, d_inner] -> [batch, pos, d_model].
  Tensor project(const Tensor& z) const;

  const Linear& output() const { return out_proj_; }  ///< out_proj
  std::vector<Tensor> weights() const;                ///< all there are

 private:
  /// What the scan reads, all but A: dt [batch, pos, channel] (for the fused scan before its bias
  /// and softplus), B and C [batch, pos, d_state].
  struct Selection {
    Tensor dt;
    Tensor B;
    Tensor C;
  };
  Selection select(const Tensor& x, bool fused, const LayerTap& tap) const;
  Tensor fused_scan(const Tensor& x, const Tensor& gate, const Selection& selection,
                    LayerState* state) const;
  Tensor scan(const Tensor& x, const Tensor& gate, const Selection& selection, const LayerTap& tap,
              LayerState* state) const;

  Mamba1Spec spec_;
  Linear in_proj_;
  Tensor conv_weight_;  // [channel, 1, d_conv]
  Tensor conv_bias_;    // [channel] or undefined
  Linear x_proj_;
  Tensor dt_weight_;                // [channel, dt_rank]
  Tensor dt_bias_;                  // [channel]
  Tensor A_log_;                    // [channel, d_state]
  Tensor D_;                        // [channel]
  std::array<Norm, 3> bcdt_norms_;  // of low-rank dt, B and C, where they have weights
  Linear out_proj_;
};

}  // namespace headlens
