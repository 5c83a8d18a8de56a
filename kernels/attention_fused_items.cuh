// headlens/kernels: which rows a block takes, and the copies of what it reads.
#pragma once

#include "attention_fused.h"
#include "attention_stats_fold.cuh"
#include "common/wgmma.cuh"

namespace headlens {

/// Blocks of 2 x 64 rows of one head against tiles of 128 keys. Two warpgroups multiply and fold,
/// one thread of a third copies.
template <int kWidth>
struct FusedShape {
  static constexpr int kGroups = 2, kKeys = 128, kRows = 64 * kGroups;
  static constexpr int kThreads = 128 * (kGroups + 1);
  static constexpr int kCopyRegisters = 24, kFoldRegisters = 240;
  static constexpr int kPanels = kWidth / 64;  // a tile row is cut into pieces of 128 bytes
  static constexpr int kPanelBytes = kKeys * 128;
  static constexpr int kTileBytes = kKeys * kWidth * 2;  // of queries, keys or values
  static constexpr int kGroupBytes = kTileBytes / kGroups;
  static constexpr int kOnesBytes = kFusedSegments * kKeys * 2;
  static constexpr int kQueryTiles = 2;  // the next rows come in good time
  static constexpr int kStages = 2;
  static constexpr int kShared = 1024 + kQueryTiles * kTileBytes + 2 * kStages * kTileBytes;
  static constexpr int kSharedOnes = kStages * kOnesBytes;
};

/// Tiles in dynamic shared memory, at multiples of 1024 bytes as their swizzle wants, and barriers.
template <typename S>
struct FusedMemory {
  unsigned char *queries, *keys, *values, *ones;
  uint64_t *query_full, *query_free, *key_full, *key_free, *value_full, *value_free;
  int* index;  // of the item whose rows are in each query tile

  static constexpr int kBarriers = 2 * S::kQueryTiles + 4 * S::kStages;
  __device__ FusedMemory(unsigned char* raw, uint64_t* barriers, int* items) {
    queries = raw + (1024 - shared_address(raw) % 1024) % 1024;
    keys = queries + S::kQueryTiles * S::kTileBytes;
    values = keys + S::kStages * S::kTileBytes;
    ones = values + S::kStages * S::kTileBytes;
    query_full = barriers;
    query_free = query_full + S::kQueryTiles;
    key_full = query_free + S::kQueryTiles;
    key_free = key_full + S::kStages;
    value_full = key_free + S::kStages;
    value_free = value_full + S::kStages;
    index = items;
  }
};

/// Where the workspace's parts are, and in which order items are taken.
struct FusedPlan {
  int* next;   // the next item that nobody has taken
  void* ones;  // [lists, 16, padded] of the dtype: 1 where a key is in the segment
  int padded;  // keys, up to a multiple of 128
  int lists;   // 1, or one for each batch row
  int items, row_blocks;
  int maps_at_once;  // heads whose keys and values the cache holds together
};

/// One block of rows of one head.
struct FusedItem {
  int batch, head, first_row, tiles;
};

/// Within the maps taken at once, long rows come first.
template <typename S>
__device__ __forceinline__ FusedItem fused_item(const AttentionFusedParams& p,
                                                const FusedPlan& plan, int index) {
  const int part = index / (plan.maps_at_once * plan.row_blocks);
  const int first_map = part * plan.maps_at_once;
  const int maps = min(plan.maps_at_once, p.batch * p.heads - first_map);
  const int at = index - first_map * plan.row_blocks;
  const int map = first_map + at % maps, row_block = plan.row_blocks - 1 - at / maps;
  return {map / p.heads, map % p.heads, row_block * S::kRows, row_block + 1};
}

#ifdef HEADLENS_HAS_WGMMA

/// One thread takes items and copies their rows, keys and values, as far ahead as there is room.
template <typename S, bool kSegments>
struct FusedCopies {
  const AttentionFusedParams& p;
  const FusedPlan& plan;
  const FusedMemory<S>& memory;
  const CUtensorMap &q_map, &k_map, &v_map, &ones_map;
  Ring<S::kQueryTiles> query;
  Ring<S::kStages> key, value;

  __device__ __forceinline__ void copy_tile(unsigned char* to, const CUtensorMap& map,
                                            uint64_t* barrier, int head, int first, int batch) {
#pragma unroll
    for (int panel = 0; panel < S::kPanels; ++panel) {
      copy_box(to + panel * S::kPanelBytes, &map, barrier, panel * 64, head, first, batch);
    }
  }
  __device__ __forceinline__ void copy_keys(const FusedItem& item, int kv_head, int tile) {
    barrier_wait_idly(&memory.key_free[key.slot], key.parity ^ 1);
    barrier_expect(&memory.key_full[key.slot], S::kTileBytes);
    copy_tile(memory.keys + key.slot * S::kTileBytes, k_map, &memory.key_full[key.slot], kv_head,
              tile * S::kKeys, item.batch);
    key.next();
  }
  __device__ __forceinline__ void copy_values(const FusedItem& item, int kv_head, int tile) {
    uint64_t* full = &memory.value_full[value.slot];
    barrier_wait_idly(&memory.value_free[value.slot], value.parity ^ 1);
    barrier_expect(full, S::kTileBytes + (kSegments ? S::kOnesBytes : 0));
    copy_tile(memory.values + value.slot * S::kTileBytes, v_map, full, kv_head, tile * S::kKeys,
              item.batch);
    if (kSegments) {
      unsigned char* ones = memory.ones + value.slot * S::kOnesBytes;
      for (int half = 0; half < 2; ++half) {
        copy_box(ones + half * (S::kOnesBytes / 2), &ones_map, full, tile * S::kKeys + 64 * half, 0,
                 0, plan.lists > 1 ? item.batch : 0);
      }
    }
    value.next();
  }
  __device__ __forceinline__ void copy_queries(const FusedItem& item) {
    unsigned char* to = memory.queries + query.slot * S::kTileBytes;
    for (int i = 0; i < S::kGroups * S::kPanels; ++i) {
      const int group = i / S::kPanels, panel = i % S::kPanels;
      copy_box(to + i * 64 * 128, &q_map, &memory.query_full[query.slot], panel * 64, item.head,
               item.first_row + 64 * group, item.batch);
    }
  }

  __device__ void run() {
    for (int index = blockIdx.x;; index = gridDim.x + atomicAdd(plan.next, 1)) {
      barrier_wait_idly(&memory.query_free[query.slot], query.parity ^ 1);
      memory.index[query.slot] = index;
      if (index >= plan.items) {
        barrier_arrive(&memory.query_full[query.slot]);
        return;
      }
      const FusedItem item = fused_item<S>(p, plan, index);
      barrier_expect(&memory.query_full[query.slot], S::kTileBytes);
      copy_queries(item);
      query.next();
      const int kv_head = item.head / (p.heads / p.kv_heads);
      copy_keys(item, kv_head, 0);
      for (int tile = 1; tile < item.tiles; ++tile) {
        copy_keys(item, kv_head, tile);
        copy_values(item, kv_head, tile - 1);
      }
      copy_values(item, kv_head, item.tiles - 1);
    }
  }
};

#endif  // HEADLENS_HAS_WGMMA

}  // namespace headlens
