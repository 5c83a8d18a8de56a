// headlens/kernels: causal softmax attention with the figures of its rows, in one pass.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// z = P v and the figures of P = softmax(scale q.k), query i over keys 0 .. i. Strides in
/// elements, d contiguous. P is rounded to the dtype (8 or 11 bits) where it multiplies v, and
/// segment masses come out of the same product: an entry's rounding, at most 2^-9 (bfloat16) or
/// 2^-12 of it, is their error, which averages out over keys. The other figures are float32's.
struct AttentionFusedParams {
  const void* q;                                  // [batch, pos, head, d]
  const void* k;                                  // [batch, pos, kv_head, d]
  const void* v;                                  // [batch, pos, kv_head, d]
  int64_t q_stride[3], k_stride[3], v_stride[3];  // of batch, position, head
  int batch, positions, heads, kv_heads, d_head;  // d_head at most 128
  KernelDtype dtype;                              // Float16 or BFloat16
  float scale;                                    // above 0

  void* z;          // [batch, pos, head, d], contiguous
  float* lse;       // [batch, head, pos], as the next three
  float* entropy;   // nats
  float* max;       // largest P
  int64_t* argmax;  // its key, the first where equal

  const int64_t* segments;  // id of each key, anything outside 0 .. num_segments - 1: none; or null
  int64_t segment_stride;   // from batch to batch; 0: one list for all
  int num_segments;         // at most kFusedSegments
  float* segment_mass;      // [batch, head, pos, num_segments]

  void* workspace;  // attention_fused_workspace() bytes, aligned to 256
};
constexpr int kFusedSegments = 16;

/// Whether this device and these tensors can be served.
bool attention_fused_fits(const AttentionFusedParams& params);
size_t attention_fused_workspace(const AttentionFusedParams& params);
/// cudaErrorNotSupported where code for this device is missing.
cudaError_t launch_attention_fused(const AttentionFusedParams& params, cudaStream_t stream);

}  // namespace headlens
