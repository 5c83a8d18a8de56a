// headlens/kernels: segment ids of keys as codes of tiles.
#include "attention_stats_segments.cuh"

namespace headlens {
namespace {

/// One warp a tile.
__global__ void segment_tiles_kernel(const __grid_constant__ AttentionStatsParams p,
                                     const __grid_constant__ SegmentTiles out, int tile_keys) {
  const int tile = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, list = blockIdx.y;
  if (tile >= out.tiles) return;
  const int64_t* ids = p.segments + list * p.segment_stride;
  const auto id_of = [&](int key) {
    const int64_t id = key < p.keys ? ids[key] : kNoSegment;
    return id >= 0 && id < p.num_segments ? static_cast<int>(id) : kNoSegment;
  };
  const int first = tile * tile_keys, last = min(first + tile_keys, p.keys) - 1;
  int low = 1 << 20, high = kNoSegment, cuts = 0, cut = 0;
  for (int i = threadIdx.x % 32; i < tile_keys; i += 32) {
    const int id = id_of(first + i);
    out.ids[static_cast<int64_t>(list) * out.padded + first + i] = static_cast<int16_t>(id);
    if (first + i > last) continue;  // no row sees it
    if (id >= 0) low = min(low, id);
    high = max(high, id);
    if (i > 0 && id != id_of(first + i - 1)) {
      ++cuts;
      cut = i;
    }
  }
  for (int step = 16; step > 0; step /= 2) {
    low = min(low, __shfl_xor_sync(kFull, low, step));
    high = max(high, __shfl_xor_sync(kFull, high, step));
    cuts += __shfl_xor_sync(kFull, cuts, step);
    cut = max(cut, __shfl_xor_sync(kFull, cut, step));
  }
  if (threadIdx.x % 32 != 0) return;
  out.codes[list * out.tiles + tile] = cuts == 0   ? high
                                       : cuts == 1 ? cut_tile(cut, id_of(first), id_of(last))
                                                   : kMixedTile + 256 * low + high;
}

}  // namespace

SegmentTiles segment_tiles_of(const AttentionStatsParams& p, int tile_keys) {
  SegmentTiles tiles{};
  if (p.segments == nullptr) return tiles;
  tiles.lists = p.segment_stride == 0 ? 1 : p.batch;
  tiles.tiles = (p.keys + tile_keys - 1) / tile_keys;
  tiles.padded = tiles.tiles * tile_keys;
  tiles.codes = static_cast<int*>(p.workspace);
  tiles.ids = reinterpret_cast<int16_t*>(tiles.codes + (tiles.lists * tiles.tiles + 3) / 4 * 4);
  return tiles;
}

size_t segment_tiles_bytes(const AttentionStatsParams& p) {
  if (p.segments == nullptr) return 0;
  const size_t lists = p.segment_stride == 0 ? 1 : static_cast<size_t>(p.batch);
  const size_t tiles = static_cast<size_t>(p.keys) / 64 + 2;  // at most: tiles of 64 or 128 keys
  return lists * tiles * (4 + 64 * 2) + 256 * lists + 64;
}

cudaError_t launch_segment_tiles(const AttentionStatsParams& p, const SegmentTiles& tiles,
                                 int tile_keys, cudaStream_t stream) {
  const dim3 blocks((tiles.tiles + 7) / 8, tiles.lists);
  segment_tiles_kernel<<<blocks, 256, 0, stream>>>(p, tiles, tile_keys);
  return cudaGetLastError();
}

}  // namespace headlens
