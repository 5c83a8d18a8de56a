// headlens/analysis: softmax attention whose backward goes by secants.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/kernels/attention.h"

namespace headlens {

/// z as it is, [batch, pos, head, d_head], with a backward of its own to what it was made from: q
/// [batch, pos, head, d_head] and k, v [batch, pos, kv_head, d_head] of one prompt under `rule`.
///
/// With A_ij = softmax(s)_ij and G_ij = dL/dA_ij, the slope of the softmax is dL/ds_ij = A_ij (G_ij
/// - sum_k A_ik G_ik), which is next to 0 for every j of a row that looks at one key. In its place
/// stands the secant to the score that key would have without content, the mean score r_ij of the
/// row's other keys:
///   (A_ij - A'_ij) (G_ij - the mean of G_ik, k != j, under A) / (s_ij - r_ij),
/// A'_ij being the pattern recomputed with s_ij = r_ij. It is exact for taking the content of one
/// key away (the QK-fix of AtP*, arXiv 2403.00745), and the slope where s_ij = r_ij.
Tensor with_secant_backward(const Tensor& z, const Tensor& q, const Tensor& k, const Tensor& v,
                            const AttentionRule& rule);

}  // namespace headlens
