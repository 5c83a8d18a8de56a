// headlens/kernels: rows of attention scores a warp at a time, folded into figures kept in shared
// memory.
#pragma once

#include "attention_stats_fold.cuh"
#include "attention_stats_parts.h"

namespace headlens {

/// What is known of a row after some of its keys. Scores are in units of ln 2.
struct RowFigures {
  float top;    // the largest score, which the sums are relative to
  float sum;    // sum of 2^x, x = score - top
  float sum_x;  // sum of 2^x x
  int key;      // the first key with the largest score
};

__device__ __forceinline__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kFull, x, step));
  return x;
}

/// Sums of two parts of a row, brought to one reference. `later` holds the later keys.
__device__ __forceinline__ RowFigures joined(const RowFigures& early, const RowFigures& later) {
  if (later.sum == 0) return early;
  if (early.sum == 0) return later;
  const bool grows = later.top > early.top;
  const float top = grows ? later.top : early.top;
  const float a = early.top - top, b = later.top - top, fa = exp2_fast(a), fb = exp2_fast(b);
  return {top, fa * early.sum + fb * later.sum,
          fa * fmaf(early.sum, a, early.sum_x) + fb * fmaf(later.sum, b, later.sum_x),
          grows ? later.key : early.key};
}

/// A list in falling order over the first `count` lanes of a warp: value (-inf: none) and key.
struct TopList {
  float value = -INFINITY;
  int key = -1;

  /// Each lane offers one value; keys rise with the lanes, so that earlier keys win ties.
  __device__ __forceinline__ void offer(float candidate, int candidate_key, int count) {
    const int lane = threadIdx.x % 32;
    float bar = __shfl_sync(kFull, value, count - 1);
    unsigned waiting = __ballot_sync(kFull, candidate > bar);
    while (waiting != 0) {
      const int from = __ffs(waiting) - 1;
      waiting &= waiting - 1;
      const float x = __shfl_sync(kFull, candidate, from);
      const int x_key = __shfl_sync(kFull, candidate_key, from);
      if (!(x > bar)) continue;
      const int place = __popc(__ballot_sync(kFull, lane < count && value >= x));
      const float up = __shfl_up_sync(kFull, value, 1);
      const int up_key = __shfl_up_sync(kFull, key, 1);
      if (lane > place) {
        value = up;
        key = up_key;
      } else if (lane == place) {
        value = x;
        key = x_key;
      }
      bar = __shfl_sync(kFull, value, count - 1);
    }
  }
};

/// The figures of one row, wherever they are kept: a block's shared memory or a split's workspace.
struct RowSlots {
  RowFigures* figures;
  float* segments;    // [num_segments], relative to figures->top
  float* top_values;  // [top_k]
  int* top_keys;
};

__host__ __device__ inline int64_t part_bytes(const AttentionStatsParams& p) {
  const int64_t bytes = 16 + 4 * (p.segments ? p.num_segments : 0) + 8 * p.top_k;
  return (bytes + 15) / 16 * 16;
}

/// What a split of the keys found for the row at `index` of the output.
__device__ __forceinline__ RowSlots part_of(const AttentionStatsParams& p, const RowsPlan& plan,
                                            int split, int64_t index) {
  unsigned char* at = plan.workspace + (split * plan.total + index) * part_bytes(p);
  float* segments = reinterpret_cast<float*>(at + 16);
  float* values = segments + (p.segments ? p.num_segments : 0);
  return {reinterpret_cast<RowFigures*>(at), segments, values,
          reinterpret_cast<int*>(values + p.top_k)};
}

/// A warp copies a row's slots.
__device__ __forceinline__ void copy_row(const AttentionStatsParams& p, const RowSlots& from,
                                         const RowSlots& to) {
  const int lane = threadIdx.x % 32;
  if (lane == 0) *to.figures = *from.figures;
  for (int i = lane; p.segments != nullptr && i < p.num_segments; i += 32) {
    to.segments[i] = from.segments[i];
  }
  if (lane < p.top_k) {
    to.top_values[lane] = from.top_values[lane];
    to.top_keys[lane] = from.top_keys[lane];
  }
}

/// A warp adds the mass of its lanes' keys to their segments. A segment at a time, so that the sums
/// come out the same every time; `p` is 0 for keys that do not count.
__device__ __forceinline__ void add_segments(float* sums, float p, int id) {
  unsigned waiting = __ballot_sync(kFull, id >= 0 && p > 0);
  while (waiting != 0) {
    const int current = __shfl_sync(kFull, id, __ffs(waiting) - 1);
    float sum = id == current ? p : 0;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kFull, sum, step);
    if (threadIdx.x % 32 == 0) sums[current] += sum;
    waiting &= ~__ballot_sync(kFull, id == current);
  }
}

/// A warp folds kPer scores a lane (-inf: not seen), of keys first_key + lane + 32 i, into a row.
template <int kPer>
__device__ __forceinline__ void fold_row(const float (&s)[kPer], int first_key, const int* ids,
                                         const AttentionStatsParams& p, const RowSlots& row) {
  const int lane = threadIdx.x % 32;
  float top = s[0];
  for (int i = 1; i < kPer; ++i) top = fmaxf(top, s[i]);
  top = warp_max(top);
  if (top == -INFINITY) return;
  int key = 1 << 30;
  RowFigures part{top, 0, 0, 0};
  float share[kPer];
  for (int i = kPer - 1; i >= 0; --i) {
    if (s[i] == top) key = first_key + lane + 32 * i;
    const float x = fmaxf(s[i] - top, -1e30f);
    share[i] = exp2_fast(x);
    part.sum += share[i];
    part.sum_x = fmaf(share[i], x, part.sum_x);
  }
  for (int step = 16; step > 0; step /= 2) {
    part.sum += __shfl_xor_sync(kFull, part.sum, step);
    part.sum_x += __shfl_xor_sync(kFull, part.sum_x, step);
    key = min(key, __shfl_xor_sync(kFull, key, step));
  }
  part.key = key;
  const RowFigures before = *row.figures, after = joined(before, part);
  __syncwarp();
  if (lane == 0) *row.figures = after;
  if (p.top_k > 0) {
    TopList list;
    if (lane < p.top_k) {
      list.value = row.top_values[lane];
      list.key = row.top_keys[lane];
    }
    for (int i = 0; i < kPer; ++i) list.offer(s[i], first_key + lane + 32 * i, p.top_k);
    if (lane < p.top_k) {
      row.top_values[lane] = list.value;
      row.top_keys[lane] = list.key;
    }
  }
  if (p.segments == nullptr) return;
  if (after.top > before.top && before.sum > 0) {
    const float shrink = exp2_fast(before.top - after.top);
    for (int i = lane; i < p.num_segments; i += 32) row.segments[i] *= shrink;
  }
  __syncwarp();
  const float to_row = exp2_fast(top - after.top);
  for (int i = 0; i < kPer; ++i) add_segments(row.segments, share[i] * to_row, ids[lane + 32 * i]);
  __syncwarp();
}

/// A warp starts a row's slots afresh.
__device__ __forceinline__ void clear_row(const AttentionStatsParams& p, const RowSlots& row) {
  const int lane = threadIdx.x % 32;
  if (lane == 0) *row.figures = {-INFINITY, 0, 0, 0};
  if (p.segments != nullptr) {
    for (int i = lane; i < p.num_segments; i += 32) row.segments[i] = 0;
  }
  if (lane < p.top_k) {
    row.top_values[lane] = -INFINITY;
    row.top_keys[lane] = -1;
  }
}

/// Writes a finished row, a warp's work; `index` is its place in [batch, head_count, row_count].
__device__ __forceinline__ void write_row(const AttentionStatsParams& p, bool figures_too,
                                          const RowSlots& row, int64_t index) {
  const int lane = threadIdx.x % 32;
  const RowFigures f = *row.figures;
  const bool sees = f.sum > 0;
  const float log_sum = log2f(f.sum), share = sees ? 1 / f.sum : 0.0f;
  if (figures_too) {
    if (lane == 0) p.lse[index] = sees ? kLn2 * (f.top + log_sum) : -INFINITY;
    if (lane == 1) p.entropy[index] = sees ? fmaxf(kLn2 * (log_sum - f.sum_x * share), 0.0f) : 0.0f;
    if (lane == 2) p.max[index] = share;
    if (lane == 3) p.argmax[index] = sees ? f.key : 0;
  }
  if (p.segments != nullptr) {
    for (int i = lane; i < p.num_segments; i += 32) {
      p.segment_mass[index * p.num_segments + i] = row.segments[i] * share;
    }
  }
  if (lane < p.top_k) {
    const int key = row.top_keys[lane];
    p.top_keys[index * p.top_k + lane] = key;
    p.top_values[index * p.top_k + lane] =
        key < 0 ? 0 : exp2_fast(row.top_values[lane] - f.top) * share;
  }
}

}  // namespace headlens
