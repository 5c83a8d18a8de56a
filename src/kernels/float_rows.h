// headlens/kernels: norms and rotations of float32 rows on the CPU, one pass each.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/kernels/norm.h"

namespace headlens {

/// Do the loops below take it: dense float32 on the CPU?
bool is_float_rows(const Tensor& x);

/// `add_rms_norm`, or without an addend `rms_norm`, in float32; the sum is then x itself.
AddedNorm rms_norm_of_rows(const Tensor& x, const Tensor& addend, const Tensor& weight, double eps,
                           bool plus_one);

/// `rotate_heads` of x [batch, pos, head, d_head], whose last dimension is dense.
Tensor rotate_rows(const Tensor& x, const Tensor& cos, const Tensor& sin);

}  // namespace headlens
