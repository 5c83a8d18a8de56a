// headlens/kernels: softmax attention of a few chosen queries over all keys.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/kernels/attention.h"

namespace headlens {

/// z = softmax(scores) v of chosen queries only, as `attention` gives it at their rows. q [batch,
/// n, head, d_head] are those queries, `places` [batch, n] int64 the keys they sit at; k, v [batch,
/// key, kv_head, d_head]; returns [batch, n, head, d_head]. Keeps scores of batch x head x n x key:
/// for n much smaller than the text.
at::Tensor attention_rows(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const AttentionRule& rule, const at::Tensor& places);

}  // namespace headlens
