// headlens/model: what a forward pass leaves behind for the next position.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "headlens/core/dtype.h"

namespace headlens {

/// State of one layer; which members are used depends on the layer's kind (a layer of two mixers
/// uses them all). Undefined: nothing seen
/// yet.
struct LayerState {
  Tensor k;     ///< attention: [batch, pos, kv_head, d_head], after rotary
  Tensor v;     ///< attention: [batch, pos, kv_head, d_head]
  Tensor conv;  ///< SSM: [batch, d_conv - 1, d_conv_channels]
  Tensor
      ssm;  ///< Mamba-2 kinds: [batch, head, d_head, d_state]; Mamba-1: [batch, channel, d_state]
  std::vector<LayerState> grafts =
      {};  ///< of the blocks whose heads were grafted in, in their order
};

/// State of a whole model. An argument of forward, never hidden in the model; one state, one
/// sequence batch.
struct ModelState {
  std::vector<LayerState> layers;  ///< empty before the first forward
  int64_t position = 0;            ///< tokens seen so far, padding included
  Tensor first;                    ///< as in ForwardOptions, from the first forward on

  /// A copy that shares no storage that a forward writes to (forwards never write in place).
  ModelState clone() const { return *this; }
};

}  // namespace headlens
