// headlens/kernels: a tile of C B^T of a Mamba-2 map, for the figures made from it.
#pragma once

#include "map_parts.cuh"
#include "ssd_map.h"

namespace headlens {

constexpr int kSsdThreads = 128;  // four warps of 16 rows
constexpr float kNegligible = 0x1p-30f;

/// Rows of a block, all keys before and at them, some eights of slots of one group.
struct SsdBlock {
  const SsdMapStatsParams& p;
  int64_t b, group, tile, row0, slot0, slots;
  int warp, lane, g, q;

  __device__ int64_t line() const { return b * p.terms.in.groups + group; }
  __device__ int64_t tiles() const { return p.terms.padded / kSsdTile; }
  __device__ int row_stride() const { return static_cast<int>(p.terms.states) + 8; }
  __device__ int64_t head(int64_t slot) const {  // -1: filled up
    const int64_t width = p.terms.eights * kSsdEight, within = slot - group * width;
    const int64_t shared = p.terms.in.heads / p.terms.in.groups;
    return within < shared ? group * shared + within : -1;
  }
  /// log2 of the decay from the end of `of` to the start of the rows' tile.
  __device__ float decay_after(int64_t of, int64_t slot) const {
    const double* before = p.terms.before + b * (tiles() + 1) * slots + slot;
    return static_cast<float>(before[tile * slots] - before[(of + 1) * slots]);
  }
};

/// grid: x = rows' tiles times runs of kEights eights, the longest rows first; y group; z batch.
template <int kEights>
__device__ __forceinline__ SsdBlock ssd_block(const SsdMapStatsParams& p) {
  const int64_t runs = p.terms.eights / kEights, tiles = p.terms.padded / kSsdTile;
  const int64_t tile = tiles - 1 - blockIdx.x / runs, run = blockIdx.x % runs;
  const int lane = threadIdx.x % 32;
  return {p,
          blockIdx.z,
          blockIdx.y,
          tile,
          tile * kSsdTile,
          (blockIdx.y * p.terms.eights + run * kEights) * kSsdEight,
          p.terms.in.groups * p.terms.eights * kSsdEight,
          static_cast<int>(threadIdx.x / 32),
          lane,
          lane / 4,
          lane % 4};
}
template <int kEights>
dim3 ssd_grid(const SsdMapStatsParams& p) {
  return dim3(static_cast<unsigned>(p.terms.padded / kSsdTile * (p.terms.eights / kEights)),
              static_cast<unsigned>(p.terms.in.groups), static_cast<unsigned>(p.terms.in.batch));
}

/// Whether blocks take 32 slots, or 8: few rows are spread over more blocks, which share less, and
/// wide states leave no room for the weights of 32.
inline bool ssd_wide(const SsdMapStatsParams& p) {
  const int64_t rows = p.terms.padded / kSsdTile * p.terms.in.batch * p.terms.in.groups;
  return p.terms.eights % 4 == 0 && rows * p.terms.eights / 4 >= 200 &&
         p.terms.planes * p.terms.states <= 384;
}

/// Starts the copy of one tile of packed B or C into rows of row_stride.
__device__ __forceinline__ void copy_tile(const SsdBlock& t, const void* packed, int64_t tile,
                                          __nv_bfloat16* to) {
  const SsdMapTerms& m = t.p.terms;
  const int64_t plane = m.in.batch * m.in.groups * m.padded * m.states;
  const auto* from = static_cast<const __nv_bfloat16*>(packed) +
                     (t.line() * m.padded + tile * kSsdTile) * m.states;
  const int pieces = static_cast<int>(m.states) / 8, per_plane = kSsdTile * pieces;
  for (int at = threadIdx.x; at < per_plane * m.planes; at += kSsdThreads) {
    const int k = at / per_plane, row = at % per_plane / pieces, piece = at % pieces;
    copy_async_16(shared_address(to + (k * kSsdTile + row) * t.row_stride() + piece * 8),
                  from + k * plane + row * m.states + piece * 8, true);
  }
}

/// scores = C B^T of a warp's 16 rows and a tile's 64 keys, as eight fragments.
__device__ __forceinline__ void multiply_tile(const SsdBlock& t, const __nv_bfloat16* C,
                                              const __nv_bfloat16* B, float (&scores)[8][4]) {
#pragma unroll
  for (int eight = 0; eight < 8; ++eight) {
    for (int e = 0; e < 4; ++e) scores[eight][e] = 0;
  }
  const int stride = t.row_stride(), planes = static_cast<int>(t.p.terms.planes);
  const int row = t.warp * 16 + t.lane % 16, column = t.lane / 16 * 8;  // of C
  const int key = t.lane / 16 * 8 + t.lane % 8, state = t.lane / 8 % 2 * 8;
  for (int ck = 0; ck < planes; ++ck) {
    for (int bk = 0; bk < planes && bk + ck < 3; ++bk) {  // smaller products are below 2^-26
      const uint32_t c_at = shared_address(C + (ck * kSsdTile + row) * stride + column);
      const uint32_t b_at = shared_address(B + (bk * kSsdTile + key) * stride + state);
#pragma unroll 2
      for (int n = 0; n < t.p.terms.states; n += 16) {
        uint32_t c[4];
        load_matrices(c, c_at + n * 2);
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          uint32_t b[4];
          load_matrices(b, b_at + (pair * 16 * stride + n) * 2);
          mma<__nv_bfloat16>(scores[2 * pair], c, b[0], b[1]);
          mma<__nv_bfloat16>(scores[2 * pair + 1], c, b[2], b[3]);
        }
      }
    }
  }
}

/// Keys of the rows' own tile, [key][slot]: log2 decay within the tile up to the key, high and low,
/// with log2 dt taken from the low part.
template <int kSlots>
__device__ __forceinline__ void load_diagonal(const SsdBlock& t, float2 (*keys)[kSlots]) {
  const SsdMapTerms& m = t.p.terms;
  for (int at = threadIdx.x; at < kSsdTile * kSlots; at += kSsdThreads) {
    const int key = at / kSlots, slot = at % kSlots;
    const int64_t pos = t.row0 + key, head = t.head(t.slot0 + slot);
    float2 inside = m.inside[(t.b * m.padded + pos) * t.slots + t.slot0 + slot];
    if (m.in.dt != nullptr && pos < m.in.pos && head >= 0) {
      const int64_t* d = m.in.dt_strides;
      const int64_t from = t.b * d[0] + pos * d[1] + head * d[2];
      inside.y -= log2_fast(fabsf(load_any(m.in.dt, from, m.in.dt_dtype)));
    }
    keys[key][slot] = inside;
  }
}

__device__ __forceinline__ float2 decay_inside(const SsdBlock& t, int row, int slot) {
  return t.p.terms.inside[(t.b * t.p.terms.padded + t.row0 + row) * t.slots + t.slot0 + slot];
}

/// log2 of decay times dt from a key to a row of its tile: a difference that keeps its digits.
__device__ __forceinline__ float decay_between(float2 row, float2 key) {
  return (row.x - key.x) + (row.y - key.y);
}

/// What bounds and sizes a tile's entries, per slot.
struct TileTerms {
  float decay[32], reach[32];  // log2 decay after the tile; sum of all weights up to its end
  float exponent[32];          // the weights are below 2^(14 - exponent)
  float B_reach[32];           // the largest |B| up to its end
};
/// Fetched by one thread a slot while the tile before is worked on, stored once that is done with.
struct TileFetch {
  float decay, reach, exponent, B_reach;

  __device__ __forceinline__ TileFetch(const SsdBlock& t, int64_t tile, int slots) {
    const int slot = threadIdx.x;
    if (slot >= slots || tile < 0) return;
    const int64_t at = (t.b * t.tiles() + tile) * t.slots + t.slot0 + slot;
    decay = t.decay_after(tile, t.slot0 + slot);
    reach = t.p.terms.reach[at];
    exponent = static_cast<float>(t.p.terms.exponent[at]);
    B_reach = t.p.terms.B_reach[t.line() * t.tiles() + tile];
  }
  __device__ __forceinline__ void store(int64_t tile, int slots, TileTerms& s) const {
    const int slot = threadIdx.x;
    if (slot >= slots || tile < 0) return;
    s.decay[slot] = decay, s.reach[slot] = reach, s.exponent[slot] = exponent;
    s.B_reach[slot] = B_reach;
  }
};

}  // namespace headlens
