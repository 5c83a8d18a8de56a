// headlens/kernels: causal softmax attention with grouped heads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace headlens {

/// What turns q and k into scores, and which keys a query sees besides causality.
struct AttentionRule {
  double scale = 1;       ///< multiplies q.k
  int64_t window = 0;     ///< a query sees this many keys, its own the last; 0: all before it
  double softcap = 0;     ///< scores become softcap tanh(scores / softcap); 0: as they are
  at::Tensor first = {};  ///< int64 [batch]: keys before it are padding; undefined: none are
};

/// z = softmax(scores) v, causal: query i sees keys up to keys - queries + i. Fused where the rule
/// allows, else by blocks of queries; nothing of size q x k kept. The z of a query that is padding
/// is 0. q [batch, query, head, d_head]; k, v [batch, key, kv_head, d_head]; returns [batch, query,
/// head, d_head].
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const AttentionRule& rule);

/// Scores before the softmax of chosen rows, [batch, head, row, key], -inf where the query does not
/// see the key. `rows` [batch, row] int64; `heads` int64 [n] or undefined for all. At least
/// float32.
at::Tensor attention_score_rows(const at::Tensor& q, const at::Tensor& k, const AttentionRule& rule,
                                const at::Tensor& rows, const at::Tensor& heads);

/// Which keys chosen rows see under the rule: bool [batch, 1, row, keys]. `first_query` is the key
/// at row 0's own position.
at::Tensor attention_sees(const AttentionRule& rule, const at::Tensor& rows, int64_t keys,
                          int64_t first_query);

}  // namespace headlens
