// headlens/kernels: the Mamba-1 scan as a loop over positions and its gradient, outside autograd.
#pragma once

#include "kernels/s6_checks.h"

namespace headlens {

struct S6Outputs {
  Tensor y;      // [batch, pos, channel]
  Tensor state;  // [batch, channel, d_state]
  Tensor saved;  // states every few positions, for the backward; undefined unless asked for
};

/// Positions that are advanced one after another; a longer sequence is cut into pieces of this
/// length that advance side by side.
int64_t s6_piece(const Tensor& x);

/// y and the last state. Inputs in one dtype; nothing is recorded for autograd.
S6Outputs s6_forward(const S6Inputs& in, int64_t piece, bool save);

/// Gradients of everything in `in` from those of y and of the last state (may be undefined);
/// `piece` and `saved` as in the forward.
S6Inputs s6_backward(const S6Inputs& in, int64_t piece, const Tensor& saved, const Tensor& grad_y,
                     const Tensor& grad_state);

}  // namespace headlens
