// headlens/kernels: figures of softmax rows from q and k, streamed over the keys.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// P = softmax over the keys that a row sees: causal (query i stands at key keys - queries + i),
/// the last `window` of them (0: all), from first[batch] on; scores scale q.k, capped to softcap
/// tanh(score / softcap) where softcap > 0. Strides in elements, d contiguous. A row that sees no
/// key has lse -inf and 0 everywhere else (-1 for top keys).
struct AttentionStatsParams {
  const void* q;                     // [batch, query, head, d]
  const void* k;                     // [batch, key, kv_head, d]
  int64_t q_stride[3], k_stride[3];  // of batch, position, head
  int batch, queries, keys, heads, kv_heads, d_head;
  KernelDtype dtype;
  float scale, softcap;
  int window;
  const int64_t* first;  // [batch] or null

  const int64_t* rows;        // [batch, row_count] or null: all, row_count = queries
  const int64_t* head_index;  // [head_count] or null: all, head_count = heads
  int row_count, head_count;

  float* lse;       // [batch, head_count, row_count], as the next three
  float* entropy;   // nats
  float* max;       // largest P
  int64_t* argmax;  // its key, the first where equal

  const int64_t* segments;  // id of each key, -1 for none; or null
  int64_t segment_stride;   // from batch to batch; 0: one list for all
  int num_segments;         // at most 256
  float* segment_mass;      // [batch, head_count, row_count, num_segments]

  int top_k;          // at most 16
  float* top_values;  // [batch, head_count, row_count, top_k], P in falling order, padded with 0
  int64_t* top_keys;  // the same shape, padded with -1

  int offset_count;    // at most 8
  int offsets[8];      // mass on the key that far before the query
  float* offset_mass;  // [batch, head_count, row_count, offset_count]

  const int64_t* key_sets;  // [batch, row_count, set_count, set_size], -1 pads; or null
  int set_count, set_size;
  float* set_mass;  // [batch, head_count, row_count, set_count]

  void* workspace;  // attention_stats_workspace() bytes, aligned to 16
};

size_t attention_stats_workspace(const AttentionStatsParams& params);
cudaError_t launch_attention_stats(const AttentionStatsParams& params, cudaStream_t stream);

}  // namespace headlens
