// headlens/kernels: how a warpgroup streams keys and values past its rows on Hopper's products.
#pragma once

#include "attention_fused_items.cuh"
#include "attention_fused_rows.cuh"
#include "common/wgmma_rows.cuh"

namespace headlens {

#ifdef HEADLENS_HAS_WGMMA

/// A warpgroup: its 64 rows of each item over the tiles that they see.
template <typename T, int kWidth, bool kSegments>
struct FusedGroup {
  using S = FusedShape<kWidth>;
  static constexpr int kCount = S::kKeys / 2, kSteps = S::kKeys / 16;
  const AttentionFusedParams& p;
  const FusedPlan& plan;
  const FusedMemory<S>& memory;
  int group;
  float factor;  // of scores in the exponent
  uint64_t query_tile, key_tile, value_tile, ones_tile;
  Ring<S::kQueryTiles> query;
  Ring<S::kStages> key, value;
  FusedItem item;
  FusedRows rows;
  float z[kWidth / 2];
  float mass[kFusedSegments / 2];
  uint32_t weights[kSteps][4];  // 2^x of a tile, rounded: the left factor of its product

  __device__ FusedGroup(const AttentionFusedParams& params, const FusedPlan& work,
                        const FusedMemory<S>& shared, int index)
      : p(params), plan(work), memory(shared), group(index), factor(params.scale * kLog2e) {
    query_tile = tile_descriptor(memory.queries + group * S::kGroupBytes);
    key_tile = tile_descriptor(memory.keys);
    value_tile = columns_descriptor(memory.values, S::kPanelBytes);
    ones_tile = tile_descriptor(memory.ones);
  }

  /// The thread's first row; its second is 8 further.
  __device__ __forceinline__ int row() const {
    const int thread = threadIdx.x % 128;
    return item.first_row + 64 * group + thread / 32 * 16 + thread % 32 / 4;
  }
  /// The groups hand products to the matrix units in turns, so that one folds meanwhile.
  __device__ __forceinline__ void wait_turn() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(256) : "memory");
  }
  __device__ __forceinline__ void pass_turn() const {
    asm volatile("bar.arrive %0, %1;" ::"r"(2 - group), "n"(256) : "memory");
  }

  /// s = the group's rows times the next tile of keys.
  __device__ __forceinline__ void start_scores(float (&s)[kCount]) {
    barrier_wait(&memory.key_full[key.slot], key.parity);
    const uint64_t a = query_tile + query.slot * (S::kTileBytes / 16);
    const uint64_t b = key_tile + key.slot * (S::kTileBytes / 16);
    pin(s);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4 * S::kPanels; ++step) {
      // In units of 16 bytes: a step is 32 bytes of a row, a panel all rows' 128.
      const int panel = step / 4 * 8, at = step % 4 * 2;
      Wgmma<T, S::kKeys>::step(s, a + panel * 64 + at, b + panel * S::kKeys + at, step > 0);
    }
    wgmma_commit();
    pin(s);
  }
  __device__ __forceinline__ void release_keys() {
    if (threadIdx.x % 32 == 0) barrier_arrive(&memory.key_free[key.slot]);
    key.next();
  }

  /// z += weights times the next tile of values; the same with the ones of the keys' segments.
  __device__ __forceinline__ void start_values() {
    barrier_wait(&memory.value_full[value.slot], value.parity);
    const uint64_t b = value_tile + value.slot * (S::kTileBytes / 16);
    pin(z);
    if (kSegments) pin(mass);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      WgmmaRows<T, kWidth, true>::step(z, weights[step], b + step * 128);
    }
    if (kSegments) {
      const uint64_t ones = ones_tile + value.slot * (S::kOnesBytes / 16);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        WgmmaRows<T, kFusedSegments, false>::step(
            mass, weights[step], ones + step / 4 * (S::kOnesBytes / 32) + step % 4 * 2);
      }
    }
    wgmma_commit();
    pin(z);
    if (kSegments) pin(mass);
  }
  __device__ __forceinline__ void finish_values() {
    wgmma_wait<0>();
    pin(z);
    if (kSegments) pin(mass);
    if (threadIdx.x % 32 == 0) barrier_arrive(&memory.value_free[value.slot]);
    value.next();
  }

  /// Takes the tile's largest scores; true where sums are to be rescaled.
  __device__ __forceinline__ bool raise(float (&s)[kCount], int tile, float (&shrink)[2]) {
    const int first_key = tile * S::kKeys;
    if (tile == item.tiles - 1) hide_later(s, first_key, row());
    const TileTops tops = tops_of(s);
    // Rare once a row is under way.
    if (!__any_sync(kFull, tops.row[0] > rows.top[0] || tops.row[1] > rows.top[1])) return false;
    return raise_tops(s, tops, factor, first_key, rows, shrink);
  }
  __device__ __forceinline__ void rescale(const float (&shrink)[2]) {
#pragma unroll
    for (int i = 0; i < kWidth / 2; ++i) z[i] *= shrink[row_of(i)];
#pragma unroll
    for (int i = 0; kSegments && i < kFusedSegments / 2; ++i) mass[i] *= shrink[row_of(i)];
  }

  __device__ __forceinline__ void run_item() {
    rows = FusedRows();
#pragma unroll
    for (float& x : z) x = 0;
#pragma unroll
    for (float& x : mass) x = 0;
    float s[kCount], shrink[2];
    wait_turn();
    start_scores(s);
    pass_turn();
    wgmma_wait<0>();
    pin(s);
    release_keys();
    raise(s, 0, shrink);
    weigh_tile<T>(s, factor, rows, weights);
    for (int tile = 1; tile < item.tiles; ++tile) {
      wait_turn();
      start_scores(s);
      start_values();
      pass_turn();
      wgmma_wait<1>();
      pin(s);
      release_keys();
      const bool moved = raise(s, tile, shrink);
      finish_values();
      if (moved) rescale(shrink);
      weigh_tile<T>(s, factor, rows, weights);
    }
    if (threadIdx.x % 32 == 0) barrier_arrive(&memory.query_free[query.slot]);
    query.next();
    wait_turn();
    start_values();
    pass_turn();
    finish_values();
    write();
  }

  __device__ void run() {
    if (group == 1) pass_turn();
    for (;;) {
      barrier_wait(&memory.query_full[query.slot], query.parity);
      const int index = memory.index[query.slot];
      if (index >= plan.items) break;
      item = fused_item<S>(p, plan, index);
      run_item();
    }
    if (group == 0) wait_turn();  // the other's last word
  }

  /// Four threads have a row's parts.
  __device__ __forceinline__ void write() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = quad_sum(rows.sum[r]), sum_x = quad_sum(rows.sum_x[r]);
      const float part = 1.0f / sum;
      const bool there = row() + 8 * r < p.positions;
      write_z(r, part, there);
      if (!there) continue;
      const int64_t at =
          (static_cast<int64_t>(item.batch) * p.heads + item.head) * p.positions + row() + 8 * r;
      const float log_sum = log2f(sum), largest = exp2_fast(rows.top[r] * factor - rows.ref[r]);
      const int lane = threadIdx.x % 4;
      if (lane == 0) p.lse[at] = kLn2 * (rows.ref[r] + log_sum);
      if (lane == 1) p.entropy[at] = fmaxf(kLn2 * (log_sum - sum_x * part), 0.0f);
      if (lane == 2) p.max[at] = fminf(largest * part, 1.0f);
      if (lane == 3) p.argmax[at] = rows.key[r];
#pragma unroll
      for (int i = 0; kSegments && i < kFusedSegments / 2; ++i) {
        const int segment = column_of(i) + 2 * lane;
        if (row_of(i) == r && segment < p.num_segments) {
          p.segment_mass[at * p.num_segments + segment] = mass[i] * part;
        }
      }
    }
  }

  /// Row r of z. The four threads trade, so that each writes 16 bytes on end.
  __device__ __forceinline__ void write_z(int r, float part, bool there) {
    const int lane = threadIdx.x % 4;
    T* to =
        static_cast<T*>(p.z) +
        ((static_cast<int64_t>(item.batch) * p.positions + row() + 8 * r) * p.heads + item.head) *
            p.d_head;
#pragma unroll
    for (int first = 0; first < kWidth / 2; first += 16) {
      uint32_t word[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int i = first + 4 * j + 2 * r;
        word[j] = pack_pair<T>(z[i] * part, z[i + 1] * part);
      }
      quad_transpose(word);
      const int column = 2 * first + 8 * lane;
      if (there && column < p.d_head) {
        *reinterpret_cast<uint4*>(to + column) = make_uint4(word[0], word[1], word[2], word[3]);
      }
    }
  }

  /// Lane j's word i becomes lane i's word j, within four lanes.
  static __device__ __forceinline__ void quad_transpose(uint32_t (&word)[4]) {
    const bool odd = (threadIdx.x & 1) != 0, high = (threadIdx.x & 2) != 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t got = __shfl_xor_sync(kFull, high ? word[i] : word[i + 2], 2);
      (high ? word[i] : word[i + 2]) = got;
    }
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const uint32_t got = __shfl_xor_sync(kFull, odd ? word[i] : word[i + 1], 1);
      (odd ? word[i] : word[i + 1]) = got;
    }
  }
};

#endif  // HEADLENS_HAS_WGMMA

}  // namespace headlens
