// headlens/kernels: the chunked matrix form of the Mamba-2 scan and its gradient, outside autograd.
#pragma once

#include "kernels/ssd_checks.h"

namespace headlens {

struct SsdOutputs {
  Tensor y;      // [batch, pos, head, d_head]
  Tensor state;  // [batch, head, d_head, d_state]
};

/// y and the last state. Inputs in one dtype; nothing is recorded for autograd.
SsdOutputs ssd_chunks_forward(const SsdInputs& in, int64_t chunk);

/// Gradients of everything in `in` (dt and state only where they are defined) from those of y and
/// of the last state. Makes the chunk matrices again instead of keeping them.
SsdInputs ssd_chunks_backward(const SsdInputs& in, int64_t chunk, const Tensor& grad_y,
                              const Tensor& grad_state);

}  // namespace headlens
