// headlens/kernels: launches of the selective scan's device code on prepared tensors.
#pragma once

#include "headlens/core/dtype.h"

namespace headlens {

/// What a scan on a device reads. x, B, C and z in one dtype, dt in it or float32, the rest float32
/// and contiguous; the last dimension of all is contiguous. state, dt_bias, D, z may be undefined.
struct ScanTensors {
  Tensor x, dt;       // [batch, pos, channel]
  Tensor A;           // [channel, d_state]
  Tensor B, C;        // [batch, pos, d_state]
  Tensor state;       // [batch, channel, d_state]
  Tensor dt_bias, D;  // [channel]
  Tensor z;           // [batch, pos, channel]
  bool softplus = false;
};

/// Which outputs a forward makes besides the state.
struct ScanWants {
  bool y = false, out = false, gated = false, saved = false;
};

struct ScanOutputs {
  Tensor y, out, gated;  // [batch, pos, channel] in x's dtype: C . h, y + D x, out silu(z)
  Tensor state;          // [batch, channel, d_state]
  Tensor saved;          // states every few positions, which the backward wants
};

/// `state` is where the last state goes: a contiguous tensor (for one position in.state too), or
/// undefined for a new one.
ScanOutputs scan_forward_on_device(const ScanTensors& in, const ScanWants& wants,
                                   const Tensor& state);

/// Gradients of everything in `in` but z, from those of out (of y without D) and of the last state
/// (may be undefined).
ScanTensors scan_backward_on_device(const ScanTensors& in, const Tensor& saved,
                                    const Tensor& grad_out, const Tensor& grad_state);

/// Through gated = out silu(z): gradients of out and of z.
std::pair<Tensor, Tensor> scan_gate_backward_on_device(const Tensor& grad_gated, const Tensor& out,
                                                       const Tensor& z);

}  // namespace headlens
