// headlens/kernels: rotation of query and key heads by position.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

/// Rotates dimensions (i, i + half) of each head by its position's angle (arXiv 2104.09864) and
/// leaves those past 2 half as they are. x [batch, pos, head, d_head]; cos, sin [batch or 1, pos,
/// 1, half], at least float32. Same shape and dtype; computed in the wider dtype, rounded once.
/// Differentiable.
at::Tensor rotate_heads(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace headlens
