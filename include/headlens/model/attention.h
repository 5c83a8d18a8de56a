// headlens/model: one softmax attention mixer.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/linear.h"
#include "headlens/model/rotary.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// Causal attention with grouped key/value heads and, where the spec has them, rotary positions.
class Attention {
 public:
  /// Reads q_proj, k_proj, v_proj and o_proj below `weights`.
  Attention(const AttentionSpec& spec, int64_t d_model, const WeightScope& weights);

  /// x [batch, pos, d_model] -> [batch, pos, d_model]. With a state, the keys before are those of
  /// the state, and it is brought up to date.
  Tensor forward(const Tensor& x, const LayerTap& tap, LayerState* state) const;

  const Linear& output() const { return o_proj_; }
  std::vector<Tensor> weights() const;

 private:
  Tensor project_out(const Tensor& z, const LayerTap& tap) const;

  AttentionSpec spec_;
  Linear q_proj_;
  Linear k_proj_;
  Linear v_proj_;
  Linear o_proj_;
  std::optional<Rotary> rotary_;
};

}  // namespace headlens
