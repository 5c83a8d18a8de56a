// headlens/kernels: attention of one position over a preallocated cache.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// z = softmax(scores) v over the keys first[b] .. position (the last `window` of them), after this
/// position's k and v were put into the cache. Before that q and k pass a norm over their head and
/// rotary positions, where these are given. The position is read on the device.
struct DecodeAttentionParams {
  const void *q, *k, *v;        // [batch, head, d] and [batch, kv_head, d], heads contiguous
  int64_t q_stride, kv_stride;  // elements from row to row of the batch
  void *k_cache, *v_cache;      // [batch, max_position, kv_head, d], contiguous
  const int64_t* position;      // one
  const int64_t* first;         // [batch]: keys before it are padding; or null
  const void *q_norm, *k_norm;  // [d]: RMS norms; or null
  const float *cos, *sin;  // [batch or 1, place, rotary_pairs], place counted from `first`; or null
  int64_t table_stride;    // elements from row to row of the batch; 0: one table for all
  void* z;                 // [batch, head, d]
  void* q_turned;          // [batch, head, d]: q as the scores had it; or null
  float* log_mass;         // [batch, head]: logsumexp of the scores; or null
  float* partial;          // decode_attention_workspace(..) floats
  int* tickets;            // [batch * kv_heads * head groups] zeros, and zeros again afterwards
  int64_t max_position;
  int batch, heads, kv_heads, d, rotary_pairs;
  int window;  // 0: every key
  int splits;  // the launcher's to set
  float scale, softcap, eps;
  KernelDtype dtype;
};

constexpr int kDecodeHeadGroup = 4;  // query heads of one key/value head that a block serves

inline int decode_head_groups(int heads, int kv_heads) {
  return (heads / kv_heads + kDecodeHeadGroup - 1) / kDecodeHeadGroup;
}

/// Parts that the keys are split into at most.
int decode_attention_splits(int batch, int heads, int kv_heads);
/// Floats of `partial`.
int64_t decode_attention_workspace(int batch, int heads, int kv_heads, int d);

/// d a multiple of 8, at most 256; pointers on 16 bytes.
cudaError_t launch_decode_attention(const DecodeAttentionParams& params, cudaStream_t stream);

/// P of chosen heads over the whole cache, float32 [batch, n, max_position]; 0 where no key is
/// seen.
struct DecodeRowsParams {
  const void* q;          // [batch, head, d], as q_turned
  const void* k_cache;    // [batch, max_position, kv_head, d]
  const float* log_mass;  // [batch, head]
  const int64_t* position;
  const int64_t* first;   // [batch] or null
  const int64_t* chosen;  // [n]: heads
  float* rows;
  int64_t max_position;
  int batch, n, heads, kv_heads, d, window;
  float scale, softcap;
  KernelDtype dtype;
};
cudaError_t launch_decode_rows(const DecodeRowsParams& params, cudaStream_t stream);

}  // namespace headlens
