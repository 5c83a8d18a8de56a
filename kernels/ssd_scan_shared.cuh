// headlens/kernels: what both ways through a chunk of the Mamba-2 scan share.
#pragma once

#include "ssd_sweep.cuh"

namespace headlens {

/// Shared memory of the scan: two stages of x, B and C, then y of a chunk and kMaps maps.
template <int kStates, int kMaps>
struct ScanShared {
  static constexpr int kStageBytes = kPanelBytes * (1 + 2 * (kStates / 64));
  static constexpr int kBytes = 2 * kStageBytes + (1 + kMaps) * kPanelBytes;
  uint32_t x, B, C, map, y;

  __device__ ScanShared(const char* shared, int stage) {
    const uint32_t start = shared_address(shared);
    x = start + stage * kStageBytes;
    B = x + kPanelBytes;
    C = B + kPanelBytes * (kStates / 64);
    y = start + 2 * kStageBytes;
    map = y + kPanelBytes * (1 + stage % kMaps);
  }

  template <typename T>
  __device__ void load(const SsdParams& p, const SsdPlace& at, int chunk) const {
    const int first = chunk * kSsdChunk, rows = p.pos - first;
    const int group = at.head / (p.heads / p.groups);
    load_tile<kStates / 64, kSsdThreads>(C, row_of<T>(p.C, at.batch, first, group), p.C.pos, rows,
                                         p.d_state);
    load_tile<kStates / 64, kSsdThreads>(B, row_of<T>(p.B, at.batch, first, group), p.B.pos, rows,
                                         p.d_state);
    load_tile<1, kSsdThreads>(x, row_of<T>(p.x, at.batch, first, at.head) + at.first_row, p.x.pos,
                              rows, p.d_head - at.first_row);
    copy_async_commit();
  }
};

/// Has a later chunk's tiles brought near: x and C by half of the threads, B by the others.
template <typename T, int kStates>
__device__ __forceinline__ void prefetch_chunk(const SsdParams& p, const SsdPlace& at, int chunk) {
  const int first = chunk * kSsdChunk, rows = p.pos - first;
  const int group = at.head / (p.heads / p.groups);
  if (tile_thread() < 64) {
    prefetch_tile<1>(row_of<T>(p.x, at.batch, first, at.head) + at.first_row, p.x.pos, rows);
    prefetch_tile<kStates / 64>(row_of<T>(p.C, at.batch, first, group), p.C.pos, rows);
  } else {
    prefetch_tile<kStates / 64>(row_of<T>(p.B, at.batch, first, group), p.B.pos, rows);
  }
}

/// Rows 16 strip .. of the chunk's map (C_i . B_j) decay_ij dt_j, with D on the diagonal, as T.
/// Blocks of the future are not written.
template <typename T>
__device__ __forceinline__ void write_map(uint32_t map, const float (&scores)[kSsdChunk / 8][4],
                                          const ChunkDecays& d, int strip, float D) {
  const int lane = made_anew(threadIdx.x % 32), row = 16 * strip + lane / 4;
  const float sums[2] = {d.sum[row], d.sum[row + 8]};
#pragma unroll
  for (int n = 0; n < kSsdChunk / 8; ++n) {
    if (n / 2 > strip) break;
    const int column = 8 * n + lane % 4 * 2;
    float value[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int i = row + e / 2 * 8, j = column + e % 2;
      const float decay = exp2_fast(sums[e / 2] - d.sum[j]) * d.dt[j];
      value[e] = j > i ? 0.0f : scores[n][e] * decay + (j == i ? D : 0.0f);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      store_shared(map + swizzled(row + 8 * half, n) + lane % 4 * 4,
                   pack_pair<T>(value[2 * half], value[2 * half + 1]));
    }
  }
}

/// y^T, or part of it, by the decay from the chunk's start.
__device__ __forceinline__ void decay_from_start(float (&y)[kSsdChunk / 8][4],
                                                 const ChunkDecays& d) {
#pragma unroll
  for (int n = 0; n < kSsdChunk / 8; ++n) {
    const float* from = d.from + 8 * n + threadIdx.x % 4 * 2;
    y[n][0] *= from[0], y[n][2] *= from[0];
    y[n][1] *= from[1], y[n][3] *= from[1];
  }
}

/// y^T from registers into the tile of y, rows of d_head.
template <typename T>
__device__ __forceinline__ void put_y(uint32_t tile, const float (&y)[kSsdChunk / 8][4]) {
  const int lane = threadIdx.x % 32, warp = tile_warp();
#pragma unroll
  for (int n = 0; n < kSsdChunk / 8; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t pair = transposed_8x8(pack_pair<T>(y[n][2 * half], y[n][2 * half + 1]));
      const uint32_t to = tile + swizzled(8 * n + lane / 4, 2 * warp + half) + lane % 4 * 4;
      store_shared(to, pair);
    }
  }
}

template <typename T>
__device__ __forceinline__ void write_y(const SsdParams& p, const SsdPlace& at, uint32_t tile,
                                        int chunk) {
  const int row0 = tile_thread() / 8, piece = tile_thread() % 8;
  if (at.first_row + piece * 8 >= p.d_head) return;
#pragma unroll
  for (int row = row0; row < kSsdChunk; row += kSsdThreads / 8) {
    const int t = chunk * kSsdChunk + row;
    if (t >= p.pos) break;
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(tile + swizzled(row, piece))
                 : "memory");
    T* to = const_cast<T*>(row_of<T>(p.y, at.batch, t, at.head)) + at.first_row + piece * 8;
    *reinterpret_cast<uint4*>(to) = v;
  }
}

}  // namespace headlens
