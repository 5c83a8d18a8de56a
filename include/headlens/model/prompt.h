// headlens/model: what all layers of a forward share besides the residual.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

#include "headlens/core/dtype.h"

namespace headlens {

struct RotaryTables;  // model/rotary.h

/// A batch of prompts as the layers see it. Default: no padding, and no layer that reads the
/// embedding again.
struct Prompt {
  Tensor embedding;   ///< [batch, pos, d_model], what `embed` gave: Zamba2's shared blocks read it
  Tensor first;       ///< int64 [batch]: a row's tokens before it are padding; undefined: none
  int64_t start = 0;  ///< positions that a state has seen before this forward
  /// int64 [1], for one step of decoding: `start` where a recorded step finds it, on the device.
  /// The state's keys and values are then buffers that the step writes into (model/decoder.h).
  Tensor step;
  bool ids_checked = false;  ///< they are known to be in range: `embed` need not look
  /// What layers with equal rotary positions share in this forward; null: nothing is kept.
  std::shared_ptr<RotaryTables> tables;

  /// The same prompt with its tensors on `device`.
  Prompt on(at::Device device) const;
  /// bool [batch, pos, 1, 1]: which of this forward's `pos` positions are no padding; undefined
  /// where all are.
  Tensor real(int64_t pos) const;
  /// int64 [batch, pos] on `device`: each token's place in its own text, 0 for padding; [1, pos]
  /// without padding.
  Tensor places(int64_t pos, at::Device device) const;
};

/// x [batch, pos, ..] with 0 where the position is padding; `real` as from Prompt::real.
Tensor hide_padding(const Tensor& x, const Tensor& real);

}  // namespace headlens
