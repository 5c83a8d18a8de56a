// headlens/kernels: root-mean-square norms of rows, one pass each where the device has our code.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "headlens/kernels/kinds.h"

namespace headlens {

/// weight * (x / sqrt(mean(x^2) + eps)) over the last dimension, the quotient rounded to weight's
/// dtype first, as Llama has it; with `plus_one` quotient * (1 + weight), rounded once (Gemma). x
/// [.., width], weight [width]; returns [.., width] in weight's dtype. Differentiable.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, bool plus_one);

/// What `add_rms_norm` gives: a residual brought up to date, and its norm.
struct AddedNorm {
  at::Tensor sum;     ///< residual + addend, in residual's dtype
  at::Tensor normed;  ///< rms_norm of it
};
/// The residual's addition and the norm of the next part in one pass; same shapes.
AddedNorm add_rms_norm(const at::Tensor& residual, const at::Tensor& addend,
                       const at::Tensor& weight, double eps, bool plus_one);

/// The gate and norm before a Mamba-2 output projection: y [.., width] (at least as wide a dtype as
/// the gate's), gate [.., width], weight [width] (undefined for GateOnly); the norm over each of
/// `groups` parts. Computed in at least float32, returned in the gate's dtype. Differentiable.
at::Tensor gated_rms_norm(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight,
                          double eps, int64_t groups, GatedNorm kind = GatedNorm::GateFirst);

}  // namespace headlens
