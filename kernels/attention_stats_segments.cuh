// headlens/kernels: the mass of a row on each key segment, gathered tile by tile.
#pragma once

#include "attention_stats_fold.cuh"
#include "attention_stats_parts.h"
#include "common/mma.cuh"

namespace headlens {

/// The code of a tile whose columns before `at` (1 to 127) have one id and the others another.
__device__ __forceinline__ int cut_tile(int at, int before, int after) {
  return kCutTile + (at << 18) + ((before + 1) << 9) + after + 1;
}
__device__ __forceinline__ int cut_at(int code) {
  return code >> 18 & 127;
}
__device__ __forceinline__ int cut_before(int code) {
  return (code >> 9 & 511) - 1;
}
__device__ __forceinline__ int cut_after(int code) {
  return (code & 511) - 1;
}

/// Two floats as halves, and what the rounding left of them as two halves more.
__device__ __forceinline__ void split_half(float x, float y, uint32_t& high, uint32_t& low) {
  const __half2 whole = __floats2half2_rn(x, y);
  const float2 back = __half22float2(whole);
  const __half2 rest = __floats2half2_rn(x - back.x, y - back.y);
  high = reinterpret_cast<const uint32_t&>(whole);
  low = reinterpret_cast<const uint32_t&>(rest);
}

/// Segment sums of a thread's two rows. A run of tiles in one segment costs nothing: its sum is the
/// row's own, stored when the run ends. Sums wait in the output as logarithms (base 2), each slot
/// touched by one thread only, and become masses when the row's total is known.
struct SegmentSlots {
  float* first;    // slots of the first row; the second's are 8 rows further
  int count;       // segments; 0: nothing to do
  int rows_there;  // how many of the two rows exist

  __device__ SegmentSlots(const AttentionStatsParams& p, int batch, int out_head, int row)
      : first(p.segment_mass +
              ((static_cast<int64_t>(batch) * p.head_count + out_head) * p.queries + row) *
                  (p.segments ? p.num_segments : 0)),
        count(p.segments ? p.num_segments : 0),
        rows_there(row + 8 < p.queries ? 2
                   : row < p.queries   ? 1
                                       : 0) {}

  template <typename F>
  __device__ __forceinline__ void each_own(F&& f) const {
    const int part = 2 * (threadIdx.x % 4);
    for (int s = part; s < count; s += 8) {
      f(s);
      if (s + 1 < count) f(s + 1);
    }
  }
  __device__ __forceinline__ float* slot(int r, int segment) const {
    return first + static_cast<int64_t>(8) * r * count + segment;
  }
  __device__ void clear() const {
    for (int r = 0; r < rows_there; ++r) each_own([&](int s) { *slot(r, s) = -INFINITY; });
  }
  __device__ __forceinline__ void add(int r, int segment, float log_sum) const {
    float* at = slot(r, segment);
    const float old = *at, high = fmaxf(old, log_sum), low = fminf(old, log_sum);
    *at = high + __log2f(1.0f + exp2_fast(low - high));
  }

  /// Stores the sums of a run of tiles with code `id`, and leaves none. `is_first`: the segment has
  /// no sums yet, so that nothing waits for its slots.
  __device__ __forceinline__ void end_run(int id, RowPair& rows, bool is_first) const {
    const bool stored = id >= 0 && id < kMixedTile;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (stored) {
        const float2 sum = quad_total(rows.sum[r], rows.ref[r]);
        if (id % 8 / 2 == threadIdx.x % 4 && r < rows_there && sum.x > 0) {
          const float log_sum = sum.y + __log2f(sum.x);
          if (is_first) {
            *slot(r, id) = log_sum;
          } else {
            add(r, id, log_sum);
          }
        }
      }
      rows.done[r] += rows.sum[r];
      rows.sum[r] = 0;
    }
  }

  /// A tile of several segments: its 2^x, as the sum of two halves, times the ones of its keys'
  /// segments, 8 segments at a time. Destroys the scores.
  template <int kCount>
  __device__ __forceinline__ void spread(float (&s)[kCount], float factor,
                                         const SegmentTiles& tiles, int batch, int first_key,
                                         int code, const RowPair& rows) const {
    constexpr float kLift = 14;  // the largest 2^x is 2^14: small ones keep their digits as halves
    const float shift[2] = {kLift - quad_max(rows.top[0]) * factor,
                            kLift - quad_max(rows.top[1]) * factor};
    uint32_t high[kCount / 2], low[kCount / 2];
#pragma unroll
    for (int i = 0; i < kCount; i += 2) {
      split_half(exp2_fast(fmaf(s[i], factor, shift[row_of(i)])),
                 exp2_fast(fmaf(s[i + 1], factor, shift[row_of(i)])), high[i / 2], low[i / 2]);
    }
    const int part = 2 * (threadIdx.x % 4), column = threadIdx.x % 32 / 4;
    const int16_t* ids = tiles.ids +
                         static_cast<int64_t>(tiles.lists > 1 ? batch : 0) * tiles.padded +
                         first_key + part;
    for (int first = code / 256 % 256 / 8 * 8; first <= code % 256; first += 8) {
      const int mine = first + column;
      float acc[4] = {0, 0, 0, 0};
#pragma unroll
      for (int step = 0; step < kCount / 8; ++step) {
        const short2 front = *reinterpret_cast<const short2*>(ids + 16 * step);
        const short2 back = *reinterpret_cast<const short2*>(ids + 16 * step + 8);
        const uint32_t b0 = (front.x == mine ? 0x3c00u : 0) | (front.y == mine ? 0x3c000000u : 0);
        const uint32_t b1 = (back.x == mine ? 0x3c00u : 0) | (back.y == mine ? 0x3c000000u : 0);
        const uint32_t wide[4] = {high[4 * step], high[4 * step + 1], high[4 * step + 2],
                                  high[4 * step + 3]};
        const uint32_t rest[4] = {low[4 * step], low[4 * step + 1], low[4 * step + 2],
                                  low[4 * step + 3]};
        mma<__half>(acc, wide, b0, b1);
        mma<__half>(acc, rest, b0, b1);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int segment = first + part + i % 2;
        if (acc[i] > 0 && segment < count && i / 2 < rows_there) {
          add(i / 2, segment, __log2f(acc[i]) - shift[i / 2]);
        }
      }
    }
  }

  /// Row r's sums become masses; log_sum is the logarithm of their total.
  __device__ __forceinline__ void finish(int r, float log_sum) const {
    if (r < rows_there) {
      each_own([&](int s) { *slot(r, s) = exp2_fast(*slot(r, s) - log_sum); });
    }
  }
};

}  // namespace headlens
