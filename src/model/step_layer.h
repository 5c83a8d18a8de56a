// headlens/model: a layer of norms, attention and MLP as the few operations of one decoding step.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "headlens/core/dtype.h"
#include "headlens/kernels/decode.h"
#include "headlens/model/block.h"
#include "headlens/model/state.h"

namespace headlens {

/// Cosines and sines of every place, for a spec's frequencies as they are for texts of `lengths`
/// tokens (one of all rows, or one a row): [lengths, max_length, pair] each.
DecodeTurn turn_table(const RopeSpec& spec, const std::vector<int64_t>& lengths, int64_t max_length,
                      at::Device device, at::ScalarType dtype);

/// One block, for a single position of each row.
class StepLayer {
 public:
  /// Whether the block is what this class knows: [norm, attention], [norm, MLP], each added to the
  /// residual, without multipliers, adapters, post norms or transposed weights.
  static bool knows(const Block& block, int64_t d_model);

  /// `table` as from turn_table, for a layer with rotary positions.
  StepLayer(const Block& block, const DecodeTurn& table);

  /// What runs after this layer begins with a projection as well.
  void overlap_next(bool yes) { overlap_next_ = yes; }

  /// x [batch, d_model] -> out [batch, d_model], which may be x. Keys and values go into `state`,
  /// whose buffers have room.
  void run(const Tensor& x, const LayerState& state, const Tensor& position, const Tensor& first,
           const Tensor& out);

  /// Rows for chosen heads after each run: int64 [n] -> rows [batch, n, max_length]; undefined:
  /// none.
  void show_rows(const Tensor& heads, const Tensor& rows);

 private:
  Tensor attend(const Tensor& x, const LayerState& state, const Tensor& position,
                const Tensor& first);

  std::optional<AttentionSpec> attention_;
  DecodeTurn turn_;
  DecodeScratch scratch_;
  DecodeLinear qkv_, out_, in_, down_;  // in: gate and up, or up alone
  bool has_mlp_ = false, overlap_next_ = false;
  Tensor heads_, rows_;
};

}  // namespace headlens
