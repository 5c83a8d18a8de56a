// headlens/kernels: softmax attention and the figures of its rows at once.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/kernels/attention.h"
#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Attention's output and the figures of its maps from one pass.
struct AttentionWithStats {
  at::Tensor z;    ///< [batch, query, head, d_head], as attention() gives it
  MapStats stats;  ///< as attention_stats() gives them
};

/// attention() and attention_stats() of the same q, k and v: in one pass where that serves, in two
/// elsewhere.
AttentionWithStats attention_with_stats(const at::Tensor& q, const at::Tensor& k,
                                        const at::Tensor& v, const AttentionRule& rule,
                                        const MapStatsRequest& request);

/// Whether one pass gives both: on Hopper, in float16 and bfloat16, where no gradient is recorded;
/// squares of 256 positions or more, d_head at most 128, keys neither padded nor windowed nor
/// capped; entropy, peak, logsumexp and up to 16 segments of all rows and heads. There P is rounded
/// to the dtype where it multiplies v, and the segment masses come out of that product:
/// docs/numerics.md.
bool attention_is_one_pass(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           const AttentionRule& rule, const MapStatsRequest& request);

}  // namespace headlens
