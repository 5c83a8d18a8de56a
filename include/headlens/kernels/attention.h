// headlens/kernels: causal softmax attention with grouped heads.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

/// z = softmax(scale q k^T) v, causal: query i sees keys 0 .. keys - queries + i. Fused; nothing of
/// size q x k kept. q [batch, query, head, d_head]; k, v [batch, key, kv_head, d_head]; returns
/// [batch, query, head, d_head].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale);

/// Scores before the softmax of chosen rows, [batch, head, row, key], -inf where the key is in the
/// future. `rows` [batch, row] int64; `heads` int64 [n] or undefined for all. At least float32.
at::Tensor attention_score_rows(const at::Tensor& q, const at::Tensor& k, double scale,
                                const at::Tensor& rows, const at::Tensor& heads);

}  // namespace headlens
