// headlens/kernels: the running softmax of a warp's rows, with their figures.
#pragma once

#include "attention_stats_fold.cuh"
#include "common/mma.cuh"

namespace headlens {

/// Two rows, 8 apart, that four neighbouring threads hold together. All four agree on the
/// reference, the largest score and its key; sums are each thread's own columns', in units of
/// 2^ref.
struct FusedRows {
  float ref[2] = {kMaskedScore, kMaskedScore};  // at most kSlack below the largest score
  float top[2] = {kMaskedScore, kMaskedScore};  // the largest score, before the factor
  int key[2] = {0, 0};                          // its first key
  float sum[2] = {0, 0};                        // of 2^x, x = score * factor - ref
  float sum_x[2] = {0, 0};                      // of 2^x x
};

/// The largest scores of a tile: of each lot of a thread's columns, and of all that the thread has
/// of a row.
struct TileTops {
  float lots[2][kLots], row[2];
};

template <int kCount>
__device__ __forceinline__ TileTops tops_of(const float (&s)[kCount]) {
  constexpr int kLot = kCount / kLots;
  TileTops tops;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    float& top = tops.lots[row_of(i)][i / kLot];
    top = i % kLot == 2 * row_of(i) ? s[i] : fmaxf(top, s[i]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float(&lots)[kLots] = tops.lots[r];
    tops.row[r] = fmaxf(fmaxf(lots[0], lots[1]), fmaxf(lots[2], lots[3]));
  }
  return tops;
}

/// The first key of row r whose score is `top`, which is its largest where the row `passes`. All
/// lanes call it.
template <int kCount>
__device__ __forceinline__ int key_of_top(const float (&s)[kCount], const float (&lots)[kLots],
                                          float top, bool passes, int first_key, int r) {
  constexpr int kLot = kCount / kLots;
  unsigned hits[kLots];  // lanes that have it in the lot
#pragma unroll
  for (int lot = 0; lot < kLots; ++lot) {
    hits[lot] = __ballot_sync(kFull, passes && lots[lot] == top);
  }
  int column = 1 << 30;
#pragma unroll
  for (int lot = kLots - 1; lot >= 0; --lot) {
    if (hits[lot] == 0) continue;
#pragma unroll
    for (int i = (lot + 1) * kLot - 1; i >= lot * kLot; --i) {
      if (row_of(i) == r) column = s[i] == top ? column_of(i) : column;
    }
  }
  return first_key + quad_min(column + 2 * static_cast<int>(threadIdx.x % 4));
}

/// Takes a tile's largest scores. True where some row of the warp has got a new reference: what is
/// in units of the old one is to be multiplied by `shrink`.
template <int kCount>
__device__ __forceinline__ bool raise_tops(const float (&s)[kCount], const TileTops& tops,
                                           float factor, int first_key, FusedRows& rows,
                                           float (&shrink)[2]) {
  bool moved = false;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    shrink[r] = 1;
    if (!__any_sync(kFull, tops.row[r] > rows.top[r])) continue;
    const float top = quad_max(tops.row[r]);
    const bool passes = top > rows.top[r];
    const int key = key_of_top(s, tops.lots[r], top, passes, first_key, r);
    if (!passes) continue;
    rows.top[r] = top;
    rows.key[r] = key;
    const float to = top * factor;
    if (to <= rows.ref[r] + kSlack) continue;
    const float back = rows.ref[r] - to;
    shrink[r] = exp2_fast(back);
    rows.sum_x[r] = shrink[r] * fmaf(rows.sum[r], back, rows.sum_x[r]);
    rows.sum[r] *= shrink[r];
    rows.ref[r] = to;
    moved = true;
  }
  return __any_sync(kFull, moved);
}

/// The 2^(s factor - ref) of a tile: their sums, and, rounded to T, the left factor of a product.
template <typename T, int kCount>
__device__ __forceinline__ void weigh_tile(const float (&s)[kCount], float factor, FusedRows& rows,
                                           uint32_t (&weights)[kCount / 8][4]) {
  float sum[2], sum_x[2];
#pragma unroll
  for (int i = 0; i < kCount; i += 2) {
    const int r = row_of(i);
    const float x = fmaf(s[i], factor, -rows.ref[r]), y = fmaf(s[i + 1], factor, -rows.ref[r]);
    const float p = exp2_fast(x), q = exp2_fast(y);
    sum[r] = i == 2 * r ? p : sum[r] + p;
    sum_x[r] = i == 2 * r ? p * x : fmaf(p, x, sum_x[r]);
    sum[r] += q;
    sum_x[r] = fmaf(q, y, sum_x[r]);
    weights[i / 8][i / 2 % 4] = pack_pair<T>(p, q);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.sum[r] += sum[r];
    rows.sum_x[r] += sum_x[r];
  }
}

/// Hides keys past a row's `last` (the second row's is 8 further).
template <int kCount>
__device__ __forceinline__ void hide_later(float (&s)[kCount], int first_key, int last) {
  const int reach = last - first_key - 2 * static_cast<int>(threadIdx.x % 4);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (column_of(i) > reach + 8 * row_of(i)) s[i] = kMaskedScore;
  }
}

}  // namespace headlens
