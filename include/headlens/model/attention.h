// headlens/model: one softmax attention mixer.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <vector>

#include "headlens/core/weight_scope.h"
#include "headlens/model/config.h"
#include "headlens/model/families.h"
#include "headlens/model/linear.h"
#include "headlens/model/norm.h"
#include "headlens/model/prompt.h"
#include "headlens/model/rotary.h"
#include "headlens/model/site.h"
#include "headlens/model/state.h"

namespace headlens {

/// The projections of q, k and v in whichever layout a checkpoint has them.
class QkvProjection {
 public:
  /// Reads below `weights` what the spec's layout and `names` say. `adapters`: the number of a
  /// shared block's use, whose adapters are read where the spec has them.
  QkvProjection(const AttentionSpec& spec, int64_t d_in, const AttentionNames& names,
                bool transposed, const WeightScope& weights, int64_t use);

  /// x [batch, pos, d_in] -> q [batch, pos, head, d_head]; k, v [batch, pos, kv_head, d_head]
  std::array<Tensor, 3> operator()(const Tensor& x) const;
  /// The same, q only at `positions` [batch, n] int64: [batch, n, head, d_head].
  std::array<Tensor, 3> queries_at(const Tensor& x, const Tensor& positions) const;

  std::vector<Tensor> weights() const;  ///< all there are
  /// The rows of q, k and v; not for a layout that mixes them. Biases undefined where there are
  /// none.
  std::array<Tensor, 3> part_weights() const;
  std::array<Tensor, 3> part_biases() const;  ///< of q, k, v

 private:
  std::array<Tensor, 3> parts_of(Tensor (*of)(const Linear&)) const;

  AttentionSpec spec_;
  std::array<Linear, 3> parts_;      // q, k, v; or the first is all of them
  Linear joined_;                    // the three as one product, where that pays
  std::array<Adapter, 3> adapters_;  // of q, k, v
};

/// Causal attention with grouped key/value heads and what the spec has of it: rotary positions, a
/// window, a soft cap, norms of q and k.
class Attention {
 public:
  /// Reads its tensors below `weights` (the layer's own scope of attention) under the family's
  /// names; of a shared block the adapters of its `use`-th use.
  Attention(const AttentionSpec& spec, int64_t d_model, double norm_eps, const TensorNames& names,
            const WeightScope& weights, int64_t use = 0);

  /// x [batch, pos, d_in] -> [batch, pos, d_model]. With a state, the keys before are those of the
  /// state, and it is brought up to date.
  Tensor forward(const Tensor& x, const LayerTap& tap, LayerState* state,
                 const Prompt& prompt) const;
  /// The z of forward at `positions` [batch, n] int64 only, [batch, n, head, d_head]: keys and
  /// values are made of all positions, queries of these. No taps are called.
  Tensor heads_at(const Tensor& x, const Tensor& positions, LayerState* state,
                  const Prompt& prompt) const;
  /// The last step of forward: z [batch, pos, head * d_head] -> [batch, pos, d_model].
  Tensor project(const Tensor& z) const;

  const AttentionSpec& spec() const { return spec_; }  ///< what it was built from
  const QkvProjection& qkv() const { return qkv_; }    ///< q, k and v
  const Norm& q_norm() const { return q_norm_; }       ///< without a weight where there is none
  const Norm& k_norm() const { return k_norm_; }       ///< likewise
  const Linear& output() const { return o_proj_; }     ///< o_proj
  std::vector<Tensor> weights() const;                 ///< all there are

 private:
  Tensor normalize(const Norm& norm, const Tensor& x) const;
  Tensor project_out(const Tensor& z, const LayerTap& tap) const;

  AttentionSpec spec_;
  QkvProjection qkv_;
  Norm q_norm_;
  Norm k_norm_;
  Linear o_proj_;
  std::optional<Rotary> rotary_;
};

}  // namespace headlens
