// headlens/kernels: figures of softmax attention rows, streamed over the keys.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/kernels/attention.h"
#include "headlens/kernels/map_stats.h"

namespace headlens {

/// The figures of P = softmax(scores) under the rule (kernels/attention.h: causal, query i at key
/// keys - queries + i), for the rows and heads of the request. q [batch, query, head, d_head], k
/// [batch, key, kv_head, d_head], after rotary; `log_mass` is the scores' logsumexp. A row that
/// sees no key has log_mass -inf, no top keys and 0 everywhere else.
///
/// On CUDA, in float32, float16 or bfloat16 with d_head up to 256 and where nothing records a
/// gradient, q and k are read once and nothing of size query x key is made; nothing waits for the
/// device, so segment ids outside -1 .. num_segments - 1 count as -1 there. Elsewhere blocks of
/// rows are made and reduced (map_row_stats), and gradients flow into the sums. Results at least
/// float32. ShapeError for shapes that do not fit, or a request over the limits of MapStatsRequest.
MapStats attention_stats(const at::Tensor& q, const at::Tensor& k, const AttentionRule& rule,
                         const MapStatsRequest& request);

}  // namespace headlens
