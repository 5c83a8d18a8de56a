// headlens/kernels: how a block streams keys past its rows on Hopper's warpgroup products.
#pragma once

#include "attention_stats_fold.cuh"
#include "attention_stats_parts.h"
#include "attention_stats_segments.cuh"
#include "common/wgmma.cuh"

namespace headlens {

/// Blocks of kGroups x 64 rows of one head against tiles of kKeys keys. Each warpgroup multiplies
/// and folds its 64 rows at its own pace, so that some multiply while others fold; one more copies.
template <int kWidth>
struct StatsShape {
  static constexpr int kGroups = 4, kKeys = kWidth > 128 ? 64 : 128;
  static constexpr int kRows = 64 * kGroups, kThreads = 128 * (kGroups + 1);
  static constexpr int kCopyRegisters = 24, kFoldRegisters = 112;
  static constexpr int kPanels = kWidth / 64;  // a tile row is cut into pieces of 128 bytes
  static constexpr int kQueryBytes = kRows * kWidth * 2, kKeyBytes = kKeys * kWidth * 2;
  static constexpr int kGroupBytes = kQueryBytes / kGroups;
  static constexpr int kQueryTiles = kWidth > 128 ? 1 : 2;  // the next rows come in good time
  static constexpr int kRoom = (224 * 1024 - kQueryTiles * kQueryBytes) / kKeyBytes;
  static constexpr int kStages = kRoom < 6 ? kRoom : 6;
  static constexpr int kShared = 1024 + kQueryTiles * kQueryBytes + kStages * kKeyBytes;
};

/// Tiles in dynamic shared memory, at multiples of 1024 bytes as their swizzle wants, and barriers.
template <typename S>
struct StatsMemory {
  unsigned char *queries, *keys;
  uint64_t *query_full, *query_free, *key_full, *key_free;

  static constexpr int kBarriers = 2 * (S::kQueryTiles + S::kStages);
  __device__ StatsMemory(unsigned char* raw, uint64_t* barriers) {
    queries = raw + (1024 - shared_address(raw) % 1024) % 1024;
    keys = queries + S::kQueryTiles * S::kQueryBytes;
    query_full = barriers;
    query_free = query_full + S::kQueryTiles;
    key_full = query_free + S::kQueryTiles;
    key_free = key_full + S::kStages;
  }
};

template <typename S>
__host__ __device__ int64_t items_of(const AttentionStatsParams& p) {
  return static_cast<int64_t>(p.batch) * p.head_count * ((p.queries + S::kRows - 1) / S::kRows);
}
template <typename S>
__device__ int rounds_of(const AttentionStatsParams& p) {
  return static_cast<int>((items_of<S>(p) + gridDim.x - 1) / gridDim.x);
}

/// Tiles of keys that rows from .. to see: low to high, both in; high < low for none.
template <typename S>
__device__ __forceinline__ void tiles_of(const AttentionStatsParams& p, int from, int to,
                                         int first_key, int& low, int& high) {
  const int shift = p.keys - p.queries, last = min(to, p.queries - 1) + shift;
  int first = first_key;
  if (p.window > 0) first = max(first, from + shift - p.window + 1);
  low = first / S::kKeys;
  high = from < p.queries && last >= first ? last / S::kKeys : low - 1;
}

/// One block of rows of one head, and the keys that its rows see between them.
struct StatsItem {
  int batch, out_head, head, first_row, first_key, low_tile, high_tile;
};

/// The `round`-th item of this block; false past the last. Long rows come first, and every second
/// round runs backwards, so that all blocks get the same work.
template <typename S>
__device__ bool item_of(const AttentionStatsParams& p, int round, StatsItem& item) {
  const int place = round % 2 == 0 ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
  const int64_t index = static_cast<int64_t>(round) * gridDim.x + place;
  if (index >= items_of<S>(p)) return false;
  const int maps = p.batch * p.head_count, map = static_cast<int>(index % maps);
  const int row_block = (p.queries + S::kRows - 1) / S::kRows - 1 - static_cast<int>(index / maps);
  item.batch = map / p.head_count;
  item.out_head = map % p.head_count;
  item.head = p.head_index ? static_cast<int>(p.head_index[item.out_head]) : item.out_head;
  item.first_row = row_block * S::kRows;
  item.first_key = 0;
  if (p.first) {
    item.first_key = static_cast<int>(min(max(p.first[item.batch], int64_t{0}), int64_t{p.keys}));
  }
  tiles_of<S>(p, item.first_row, item.first_row + S::kRows - 1, item.first_key, item.low_tile,
              item.high_tile);
  return true;
}

#ifdef HEADLENS_HAS_WGMMA

/// One thread copies every item's rows and keys into shared memory, as far ahead as there is room.
template <typename S>
__device__ void copy_items(const AttentionStatsParams& p, const CUtensorMap& q_map,
                           const CUtensorMap& k_map, const StatsMemory<S>& memory) {
  Ring<S::kQueryTiles> query;
  Ring<S::kStages> key;
  StatsItem item;
  for (int round = 0; round < rounds_of<S>(p); ++round) {
    if (!item_of<S>(p, round, item)) continue;
    barrier_wait_idly(&memory.query_free[query.slot], query.parity ^ 1);
    barrier_expect(&memory.query_full[query.slot], S::kQueryBytes);
    for (int i = 0; i < S::kGroups * S::kPanels; ++i) {
      const int group = i / S::kPanels, panel = i % S::kPanels;
      copy_box(memory.queries + query.slot * S::kQueryBytes + i * 64 * 128, &q_map,
               &memory.query_full[query.slot], panel * 64, item.head, item.first_row + 64 * group,
               item.batch);
    }
    query.next();
    const int kv_head = item.head / (p.heads / p.kv_heads);
    for (int tile = item.low_tile; tile <= item.high_tile; ++tile) {
      barrier_wait_idly(&memory.key_free[key.slot], key.parity ^ 1);
      barrier_expect(&memory.key_full[key.slot], S::kKeyBytes);
      for (int panel = 0; panel < S::kPanels; ++panel) {
        copy_box(memory.keys + key.slot * S::kKeyBytes + panel * S::kKeys * 128, &k_map,
                 &memory.key_full[key.slot], panel * 64, kv_head, tile * S::kKeys, item.batch);
      }
      key.next();
    }
  }
}

/// A warpgroup: its 64 rows of each item over the tiles that they see.
template <typename T, typename S, bool kSegments>
struct StatsGroup {
  static constexpr int kCount = S::kKeys / 2;
  const AttentionStatsParams& p;
  const SegmentTiles& segments;
  const StatsMemory<S>& memory;
  int group;
  uint64_t query_tile, key_tile;  // descriptors of the rings' first tiles
  float factor, slope;            // of scores in the exponent; of scores within the cap
  Ring<S::kQueryTiles> query;
  Ring<S::kStages> key;
  StatsItem item;
  int whole_from, whole_to;  // of these tiles all rows see all keys
  int run;                   // the code of the tiles whose sums are under way
  int highest;               // slots of segments above this one have not been touched
  RowPair rows;

  __device__ StatsGroup(const AttentionStatsParams& params, const SegmentTiles& tiles,
                        const StatsMemory<S>& shared, int index)
      : p(params), segments(tiles), memory(shared), group(index) {
    query_tile = tile_descriptor(memory.queries + group * S::kGroupBytes);
    key_tile = tile_descriptor(memory.keys);
    slope = p.softcap > 0 ? p.scale / p.softcap : 0.0f;
    factor = (p.softcap > 0 ? p.softcap : p.scale) * kLog2e;
  }

  /// The thread's first row; its second is 8 further.
  __device__ __forceinline__ int row() const {
    const int thread = threadIdx.x % 128;
    return item.first_row + 64 * group + thread / 32 * 16 + thread % 32 / 4;
  }
  __device__ __forceinline__ SegmentSlots slots() const {
    return SegmentSlots(p, item.batch, item.out_head, row());
  }
  __device__ __forceinline__ int code_of(int tile) const {
    if (!kSegments) return kNoSegment;
    return segments.codes[(segments.lists > 1 ? item.batch : 0) * segments.tiles + tile];
  }

  __device__ __forceinline__ void release_keys() {
    if (threadIdx.x % 32 == 0) barrier_arrive(&memory.key_free[key.slot]);
    key.next();
  }
  /// Other groups' rows see this tile, these do not.
  __device__ __forceinline__ void skip_tile() {
    barrier_wait(&memory.key_full[key.slot], key.parity);
    release_keys();
  }

  /// Products of the group's rows with the next tile.
  __device__ __forceinline__ void multiply(float (&acc)[kCount]) {
    barrier_wait(&memory.key_full[key.slot], key.parity);
    const uint64_t a = query_tile + query.slot * (S::kQueryBytes / 16);
    const uint64_t b = key_tile + key.slot * (S::kKeyBytes / 16);
    pin(acc);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4 * S::kPanels; ++step) {
      // In units of 16 bytes: a step is 32 bytes of a row, a panel all rows' 128.
      const int panel = step / 4 * 8, at = step % 4 * 2;
      Wgmma<T, S::kKeys>::step(acc, a + panel * 64 + at, b + panel * S::kKeys + at, step > 0);
    }
    wgmma_commit();
    pin(acc);
  }
  __device__ __forceinline__ void wait_for(float (&acc)[kCount]) {
    wgmma_wait<0>();
    pin(acc);
    release_keys();
  }

  __device__ __forceinline__ void switch_run(int code) {
    if (code == run) return;
    end_run();
    run = code;
  }
  __device__ __forceinline__ void end_run() {
    slots().end_run(run, rows, /*is_first=*/run > highest);
    if (run < kMixedTile) highest = max(highest, run);
  }

  __device__ __forceinline__ void fold(float (&acc)[kCount], int tile, int code) {
    const int first_key = tile * S::kKeys;
    if (p.softcap > 0) cap_tile(acc, slope);
    if (tile < whole_from || tile >= whole_to) {
      const int last = row() + p.keys - p.queries, reach = p.window > 0 ? p.window : p.keys;
      mask_tile(acc, first_key, item.first_key, last, reach);
    }
    if (kSegments && code >= kCutTile) {
      float after[2];
      switch_run(cut_before(code));
      fold_tile<true>(acc, factor, first_key, rows, cut_at(code), after);
      switch_run(cut_after(code));
      for (int r = 0; r < 2; ++r) rows.sum[r] = after[r];
    } else {
      float none[2];
      if (kSegments) switch_run(code);
      fold_tile<false>(acc, factor, first_key, rows, 0, none);
      if (kSegments && code >= kMixedTile) {
        slots().spread(acc, factor, segments, item.batch, first_key, code, rows);
        highest = max(highest, code & 255);
      }
    }
    if ((tile & 7) == 7) rows.agree(factor);
  }

  __device__ __forceinline__ void run_item() {
    const int first = item.first_row + 64 * group, shift = p.keys - p.queries;
    int low_tile, high_tile;
    tiles_of<S>(p, first, first + 63, item.first_key, low_tile, high_tile);
    const int reach = p.window > 0 ? first + 63 + shift - p.window + 1 : 0;
    whole_from = (max(item.first_key, reach) + S::kKeys - 1) / S::kKeys;
    whole_to = max(0, first + shift + 1) / S::kKeys;
    rows = RowPair();
    run = highest = kNoSegment;
    if (kSegments) slots().clear();
    barrier_wait(&memory.query_full[query.slot], query.parity);
    int tile = item.low_tile;
    for (; tile < min(low_tile, item.high_tile + 1); ++tile) skip_tile();
    for (; tile <= high_tile; ++tile) {
      float acc[kCount];
      multiply(acc);
      const int code = code_of(tile);
      wait_for(acc);
      fold(acc, tile, code);
    }
    if (threadIdx.x % 32 == 0) barrier_arrive(&memory.query_free[query.slot]);
    query.next();
    for (; tile <= item.high_tile; ++tile) skip_tile();
    write_rows();
  }

  /// Four threads have a row's parts.
  __device__ void write_rows() {
    if (kSegments) end_run();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float mine = rows.sum[r] + rows.done[r];
      const float2 all = quad_total(mine, rows.ref[r]);
      const float back = rows.ref[r] - all.y, log_sum = log2f(all.x);
      const float sum_x =
          quad_sum(mine > 0 ? exp2_fast(back) * fmaf(mine, back, rows.sum_x[r]) : 0.0f);
      const float top = quad_max(rows.top[r]);
      const int key_of_top = quad_min(rows.top[r] == top ? rows.key[r] : 1 << 30);
      const bool sees = top > kMaskedScore;
      if (row() + 8 * r >= p.queries) continue;
      const int64_t at =
          (static_cast<int64_t>(item.batch) * p.head_count + item.out_head) * p.queries + row() +
          8 * r;
      const int part = threadIdx.x % 4;
      const float largest = exp2_fast(fmaf(top, factor, -all.y)) / all.x;
      if (part == 0) p.lse[at] = sees ? kLn2 * (all.y + log_sum) : -INFINITY;
      if (part == 1) p.entropy[at] = sees ? fmaxf(kLn2 * (log_sum - sum_x / all.x), 0.0f) : 0.0f;
      if (part == 2) p.max[at] = sees ? fminf(largest, 1.0f) : 0.0f;
      if (part == 3) p.argmax[at] = sees ? key_of_top : 0;
      if (kSegments) slots().finish(r, sees ? all.y + log_sum : INFINITY);
    }
  }
};

#endif  // HEADLENS_HAS_WGMMA

}  // namespace headlens
