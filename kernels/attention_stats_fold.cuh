// headlens/kernels: folding a tile of scores, held as matrix accumulators, into its rows' figures.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace headlens {

constexpr float kMaskedScore = -1e30f;   // finite, so that 0 times it is 0
constexpr float kSlack = 8, kFar = 256;  // how far the reference may lie from the largest score,
                                         // and 2 to it
constexpr float kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr uint32_t kFull = 0xffffffffu;

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(kFull, x, 1);
  return x + __shfl_xor_sync(kFull, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFull, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFull, x, 2));
}
__device__ __forceinline__ int quad_min(int x) {
  x = min(x, __shfl_xor_sync(kFull, x, 1));
  return min(x, __shfl_xor_sync(kFull, x, 2));
}

/// A thread's share of two rows, 8 apart, that four neighbouring threads hold together: what its
/// own columns gave, so that a tile needs no word between threads. Sums are in units of 2^ref.
struct RowPair {
  float ref[2] = {0, 0};
  float top[2] = {kMaskedScore, kMaskedScore};  // the largest score, before the factor
  int key[2] = {0, 0};                          // its first key
  float bar[2] = {-1, -1};  // the 2^x that a score must pass to matter to the row; -1: none yet
  float sum[2] = {0, 0};    // sum of 2^x, x = score * factor - ref, over the current segment's run
  float done[2] = {0, 0};   // the same over the runs before it
  float sum_x[2] = {0, 0};  // sum of 2^x x

  /// Moves the reference of row r to `to`.
  __device__ __forceinline__ void refer(int r, float to) {
    const float back = ref[r] - to, all = sum[r] + done[r];
    const float shrink = all > 0 ? exp2_fast(back) : 0.0f;
    sum_x[r] = all > 0 ? shrink * fmaf(all, back, sum_x[r]) : 0.0f;
    sum[r] *= shrink;
    done[r] *= shrink;
    ref[r] = to;
  }
  /// Moves it where scores up to `x` (after the factor) would leave it too far behind, or, while
  /// there are none, too far ahead. True where it moved.
  __device__ __forceinline__ bool follow(int r, float x) {
    const bool strays = x > ref[r] + kSlack || (bar[r] < 0 && x < ref[r] - kSlack);
    if (strays) refer(r, x);
    return strays;
  }
  /// The four threads agree on what a score must pass. Now and then, between tiles.
  __device__ __forceinline__ void agree(float factor) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float all = quad_max(top[r]);
      if (all <= kMaskedScore) continue;
      follow(r, all * factor);
      bar[r] = exp2_fast(fmaf(all, factor, -ref[r]));
    }
  }
};

/// A sum that four threads hold in units of their own: together, in units of 2^(the second).
__device__ __forceinline__ float2 quad_total(float sum, float ref) {
  const float all = quad_max(sum > 0 ? ref : -INFINITY);
  return make_float2(quad_sum(sum > 0 ? sum * exp2_fast(ref - all) : 0.0f), all);
}

/// Which of the two rows accumulator `i` belongs to, and its column less 2 (lane % 4).
__device__ __forceinline__ constexpr int row_of(int i) {
  return (i >> 1) & 1;
}
__device__ __forceinline__ constexpr int column_of(int i) {
  return (i >> 2) * 8 + (i & 1);
}

constexpr int kLots = 4;  // a tile's columns are searched in this many lots

/// The larger of floats that are not negative, as integers: those come three at a time.
__device__ __forceinline__ float larger(float a, float b) {
  return __int_as_float(max(__float_as_int(a), __float_as_int(b)));
}
__device__ __forceinline__ float largest(float a, float b, float c) {
  return __int_as_float(__vimax3_s32(__float_as_int(a), __float_as_int(b), __float_as_int(c)));
}

/// A tile's part of its rows: sums of 2^x and of 2^x x, the largest 2^x of each lot of columns,
/// and, where the tile is cut, the part of the sums that lies past the cut.
struct TilePart {
  float sum[2], sum_x[2], lots[2][kLots], after[2];
};

/// kCut: `sum` stops before column `cut`, `after` has the rest.
template <bool kCut, int kCount>
__device__ __forceinline__ void sum_tile(const float (&s)[kCount], float factor,
                                         const float (&ref)[2], int cut, TilePart& part) {
  constexpr int kLot = kCount / kLots;
  const int reach = cut - 2 * static_cast<int>(threadIdx.x % 4);
  float odd[2];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int r = row_of(i), lot = i / kLot, turn = i % kLot / 4 * 2 + i % 2;  // of this row
    const float x = fmaf(s[i], factor, -ref[r]), p = exp2_fast(x);
    if (i == 2 * r) {
      part.sum[r] = !kCut || column_of(i) < reach ? p : 0;
      part.after[r] = kCut && column_of(i) >= reach ? p : 0;
      part.sum_x[r] = p * x;
    } else {
      if (!kCut || column_of(i) < reach) part.sum[r] += p;
      if (kCut && column_of(i) >= reach) part.after[r] += p;
      part.sum_x[r] = fmaf(p, x, part.sum_x[r]);
    }
    float& top = part.lots[r][lot];
    if (turn == 0) {
      top = p;
    } else if (turn % 2 == 0) {
      top = largest(top, odd[r], p);
    } else if (turn == kLot / 2 - 1) {
      top = larger(top, p);
    } else {
      odd[r] = p;
    }
  }
}

/// Takes a tile's largest 2^x, `top`, where it passes the bar: its first key, and a new reference
/// where it leaves the old one too far behind. True where the reference moved.
template <int kCount>
__device__ __forceinline__ bool raise_row(const float (&s)[kCount], float factor, int first_key,
                                          const float (&lots)[kLots], float top, int r,
                                          RowPair& rows) {
  constexpr int kLot = kCount / kLots;
  bool passes = top > rows.bar[r], moved = false;
  const bool anew = __any_sync(kFull, rows.bar[r] < 0 || top > kFar);
  if (anew) {
    float score = kMaskedScore;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (row_of(i) == r) score = fmaxf(score, s[i]);
    }
    passes = passes && score > kMaskedScore;
    if (passes) moved = rows.follow(r, score * factor);
    if (passes) top = exp2_fast(fmaf(score, factor, -rows.ref[r]));
  }
  unsigned hits[kLots];  // lanes whose largest is in the lot
#pragma unroll
  for (int lot = 0; lot < kLots; ++lot) {
    hits[lot] = __ballot_sync(kFull, passes && (anew || lots[lot] == top));
  }
  int column = 0;
  float score = kMaskedScore;
#pragma unroll
  for (int lot = kLots - 1; lot >= 0; --lot) {
    if (hits[lot] == 0) continue;
    float best = s[lot * kLot + 2 * r];
#pragma unroll
    for (int i = lot * kLot + 2 * r + 1; i < (lot + 1) * kLot; ++i) {
      if (row_of(i) == r) best = fmaxf(best, s[i]);
    }
    const bool here = (hits[lot] >> (threadIdx.x % 32) & 1) != 0 && best >= score;
    score = here ? best : score;
#pragma unroll
    for (int i = (lot + 1) * kLot - 1; i >= lot * kLot; --i) {
      if (row_of(i) == r) column = here && s[i] == best ? column_of(i) : column;
    }
  }
  if (passes) {
    rows.top[r] = score;
    rows.bar[r] = top;
    rows.key[r] = first_key + column + 2 * static_cast<int>(threadIdx.x % 4);
  }
  return moved;
}

/// Folds a tile whose first column is `first_key` into its rows. kCut: the sums past column `cut`
/// are left out of rows.sum, and go to `after`.
template <bool kCut, int kCount>
__device__ __forceinline__ void fold_tile(const float (&s)[kCount], float factor, int first_key,
                                          RowPair& rows, int cut, float (&after)[2]) {
  TilePart part;
  float top[2];
  sum_tile<kCut>(s, factor, rows.ref, cut, part);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float(&lots)[kLots] = part.lots[r];
    top[r] = larger(largest(lots[0], lots[1], lots[2]), lots[3]);
  }
  // Rare once a row is under way; and the sums above nearly always stand on a reference that
  // serves.
  if (__any_sync(kFull, top[0] > rows.bar[0] || top[1] > rows.bar[1])) {
    bool moved = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      if (!__any_sync(kFull, top[r] > rows.bar[r])) continue;
      moved |= raise_row(s, factor, first_key, part.lots[r], top[r], r, rows);
    }
    if (__any_sync(kFull, moved)) sum_tile<kCut>(s, factor, rows.ref, cut, part);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.sum[r] += part.sum[r];
    rows.sum_x[r] += part.sum_x[r];
    if (kCut) after[r] = part.after[r];
  }
}

/// Hides keys before `first`, past a row's `last` (the second row's is 8 further), or more than
/// `reach` back from it.
template <int kCount>
__device__ __forceinline__ void mask_tile(float (&s)[kCount], int first_key, int first, int last,
                                          int reach) {
  const int base = first_key + 2 * static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int key = base + column_of(i), end = last + 8 * row_of(i);
    if (key < first || key > end || key <= end - reach) s[i] = kMaskedScore;
  }
}

/// s -> tanh(s * slope): 1 - 2 / (2^(2 log2e slope s) + 1)
__device__ __forceinline__ void cap_score(float& s, float slope) {
  const float x = s * slope, size = fabsf(x);
  const float far = 1.0f - __fdividef(2.0f, exp2_fast(2 * kLog2e * size) + 1.0f);
  // Near 0 the difference above has lost its digits.
  const float near = size * (1.0f - x * x * (1.0f / 3 - x * x * (2.0f / 15)));
  s = copysignf(size < 0.04f ? near : far, x);
}

template <int kCount>
__device__ __forceinline__ void cap_tile(float (&s)[kCount], float slope) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) cap_score(s[i], slope);
}

}  // namespace headlens
