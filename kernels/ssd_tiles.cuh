// headlens/kernels: chunks of the Mamba-2 scan in shared memory and registers.
#pragma once

#include <cuda_runtime.h>

#include "common/mma.cuh"
#include "ssd_scan.h"
#include "ssd_wgmma.cuh"

namespace headlens {

// A chunk is 64 positions; a block's state is kTileHeads = 64 rows of d_head by d_state columns.
// Four warps share it: warp w owns rows 16 w to 16 w + 15, in registers, in float32.
constexpr int kSsdChunk = 64;
constexpr int kSsdTile = 64;      // rows of d_head a block takes
constexpr int kSsdThreads = 128;  // of the blocks that carry a state
constexpr int kPanelBytes = kSsdChunk * 128;

/// How the positions are shared out: a segment is carried through by one block; all but the last
/// are first summed up alone, in pieces, so that each block finds the state that enters its
/// segment.
struct SsdPlan {
  int chunks;  // of the sequence
  int tiles;   // of d_head
  int chunks_per_piece;
  int pieces_per_segment;
  int segments;

  __host__ __device__ int pieces() const { return (segments - 1) * pieces_per_segment; }
};
/// For as many recurrences at once as `sweeps`.
SsdPlan ssd_plan(const SsdParams& params, int sweeps = 1);
int ssd_multiprocessors();  // of the current device

/// What the decays of one chunk come to; position t of the chunk.
struct ChunkDecays {
  float sum[kSsdChunk];   // log2 of the decay from the chunk's start through t
  float from[kSsdChunk];  // exp2(sum): decay of what came before the chunk, at t
  float to[kSsdChunk];    // decay of what t wrote, at the chunk's end
  float dt[kSsdChunk];
  float weight[kSsdChunk];  // to * dt
};

/// Within the four warps that carry a state.
__device__ __forceinline__ int tile_thread() {
  return threadIdx.x % kSsdThreads;
}
__device__ __forceinline__ int tile_warp() {
  return tile_thread() / 32;
}

/// x, made anew: addresses that follow from it are computed where they are used, and not kept over
/// a loop in registers that are short.
__device__ __forceinline__ int made_anew(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <typename T>
__device__ __forceinline__ const T* row_of(const SsdView& v, int batch, int pos, int head) {
  return static_cast<const T*>(v.data) + batch * v.batch + int64_t(pos) * v.pos +
         int64_t(head) * v.head;
}

/// One warp's two positions (2 lane, 2 lane + 1) of a chunk on their way from global memory:
/// nothing waits for them before sum_up().
struct DecayRegs {
  float log_decay[2], dt[2];

  /// Positions past the end neither decay nor add.
  __device__ __forceinline__ void load(const SsdParams& p, int batch, int head, int first) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = first + threadIdx.x % 32 * 2 + i;
      const bool there = t < p.pos;
      log_decay[i] = there ? *row_of<float>(p.log_decay, batch, t, head) : 0.0f;
      dt[i] = there ? 1.0f : 0.0f;
      if (there && p.dt.data != nullptr) dt[i] = *row_of<float>(p.dt, batch, t, head);
    }
  }

  __device__ __forceinline__ void sum_up(ChunkDecays& out) const {
    const int lane = threadIdx.x % 32;
    // A floor keeps infinities out of the sums: below it an exponential is 0. NaN stays.
    float log2_decay[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float log2 = log_decay[i] * 1.44269504f;
      log2_decay[i] = log2 < -150.0f ? -150.0f : log2;
    }
    float sum = log2_decay[0] + log2_decay[1];
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const float before = __shfl_up_sync(0xffffffffu, sum, offset);
      if (lane >= offset) sum += before;
    }
    const float before = __shfl_up_sync(0xffffffffu, sum, 1);
    const float sums[2] = {(lane > 0 ? before : 0.0f) + log2_decay[0], sum};
    const float last = __shfl_sync(0xffffffffu, sum, 31);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int t = 2 * lane + i;
      out.sum[t] = sums[i];
      out.from[t] = exp2_fast(sums[i]);
      out.to[t] = exp2_fast(last - sums[i]);
      out.dt[t] = dt[i];
      out.weight[t] = out.to[t] * dt[i];
    }
  }
};

/// Starts the copies of kPanels panels of 64 columns by 64 rows; zeros outside rows x columns.
template <int kPanels, int kThreads, typename T>
__device__ __forceinline__ void load_tile(uint32_t to, const T* from, int row_stride, int rows,
                                          int columns) {
  constexpr int kRowsAtOnce = kThreads / 8;
  const int thread = made_anew(threadIdx.x % kThreads), row0 = thread / 8, piece = thread % 8;
  const T* at = from + int64_t(row0) * row_stride + piece * 8;
  to += swizzled(row0, piece);
#pragma unroll
  for (int i = 0; i < kSsdChunk / kRowsAtOnce; ++i) {
    const bool there = row0 + i * kRowsAtOnce < rows;
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel) {
      copy_async_16(to + panel * kPanelBytes + i * kRowsAtOnce * 128, at + panel * 64,
                    there && panel * 64 + piece * 8 < columns);
    }
    at += int64_t(kRowsAtOnce) * row_stride;
  }
}

/// Asks for a tile's rows of up to 128 bytes a panel to be brought near, 64 threads a panel.
template <int kPanels, typename T>
__device__ __forceinline__ void prefetch_tile(const T* from, int row_stride, int rows) {
  const int row = made_anew(threadIdx.x % 64);
  if (row >= rows) return;
  const T* at = from + int64_t(row) * row_stride;
#pragma unroll
  for (int panel = 0; panel < kPanels; ++panel) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at + panel * 64));
  }
}

/// Whole products read the future of a map too: it stays 0.
template <int kThreads>
__device__ __forceinline__ void clear_map(uint32_t map) {
  for (int at = threadIdx.x % kThreads * 4; at < kPanelBytes; at += kThreads * 4) {
    store_shared(map + at, 0);
  }
}

// Addresses for load_matrices: of a 16 x 16 block at (row, column) of a tile of 64-column panels,
// column a multiple of 16. "straight" serves A stored [m][k] and transposed B stored [k][n] (two
// 8-column B side by side); "crossed" serves B stored [n][k] and, transposed, A stored [k][m].
__device__ __forceinline__ uint32_t straight_address(uint32_t tile, int row, int column) {
  const int lane = threadIdx.x % 32;
  return tile + column / 64 * kPanelBytes + swizzled(row + lane % 16, column % 64 / 8 + lane / 16);
}
__device__ __forceinline__ uint32_t crossed_address(uint32_t tile, int row, int column) {
  const int lane = threadIdx.x % 32;
  return tile + column / 64 * kPanelBytes +
         swizzled(row + lane % 8 + lane / 16 * 8, column % 64 / 8 + lane / 8 % 2);
}

/// Transposes 4 registers over the 4 lanes of a quad: from a pair of each of four neighbouring
/// tiles of 8 columns, the lane comes to have all 8 columns, 16 bytes, of tile lane % 4.
__device__ __forceinline__ void gather_quad(uint32_t (&r)[4]) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
#pragma unroll
  for (int t = 0; t < 4; t += 2) {
    const uint32_t got = __shfl_xor_sync(0xffffffffu, odd ? r[t] : r[t + 1], 1);
    (odd ? r[t] : r[t + 1]) = got;
  }
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    const uint32_t got = __shfl_xor_sync(0xffffffffu, high ? r[t] : r[t + 2], 2);
    (high ? r[t] : r[t + 2]) = got;
  }
}

/// A warp's 16 rows of the state, by d_state columns.
template <int kStates>
struct StateRows {
  float v[kStates / 8][4];

  __device__ void fill(float x) {
#pragma unroll
    for (auto& tile : v) tile[0] = tile[1] = tile[2] = tile[3] = x;
  }

  __device__ void scale(float factor) {
#pragma unroll
    for (auto& tile : v) {
#pragma unroll
      for (float& x : tile) x *= factor;
    }
  }

  /// Columns 16 k to 16 k + 15 as an A operand.
  template <typename T>
  __device__ void operand(uint32_t (&a)[4], int k) const {
    a[0] = pack_pair<T>(v[2 * k][0], v[2 * k][1]);
    a[1] = pack_pair<T>(v[2 * k][2], v[2 * k][3]);
    a[2] = pack_pair<T>(v[2 * k + 1][0], v[2 * k + 1][1]);
    a[3] = pack_pair<T>(v[2 * k + 1][2], v[2 * k + 1][3]);
  }

  /// Columns 64 i to 64 i + 63.
  __device__ float (&panel(int i))[8][4] {
    return reinterpret_cast<float(&)[8][4]>(v[8 * i]);
  }

  /// Visits (row, column, two neighbouring values).
  template <typename F>
  __device__ void each_pair(F&& f) {
    const int lane = threadIdx.x % 32, row = tile_warp() * 16 + lane / 4;
#pragma unroll
    for (int n = 0; n < kStates / 8; ++n) {
      f(row, n * 8 + lane % 4 * 2, v[n][0], v[n][1]);
      f(row + 8, n * 8 + lane % 4 * 2, v[n][2], v[n][3]);
    }
  }

  /// From or to rows first_row.. of a [d_head, d_state] matrix.
  __device__ void load(const float* from, int first_row, int rows, int columns) {
    each_pair([&](int r, int c, float& a, float& b) {
      const bool valid = first_row + r < rows && c < columns;
      const float2 pair =
          valid ? *reinterpret_cast<const float2*>(from + int64_t(first_row + r) * columns + c)
                : make_float2(0.0f, 0.0f);
      a = pair.x, b = pair.y;
    });
  }
  __device__ void store(float* to, int first_row, int rows, int columns) {
    each_pair([&](int r, int c, float& a, float& b) {
      if (first_row + r >= rows || c >= columns) return;
      *reinterpret_cast<float2*>(to + int64_t(first_row + r) * columns + c) = make_float2(a, b);
    });
  }

  /// As 64 x kStates elements of T, for the backward's matrix products.
  template <typename T>
  __device__ void store_rounded(T* to) const {
    const int lane = threadIdx.x % 32, row = tile_warp() * 16 + lane / 4;
#pragma unroll
    for (int m = 0; m < kStates / 32; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        uint32_t r[4];
#pragma unroll
        for (int t = 0; t < 4; ++t) {
          r[t] = pack_pair<T>(v[4 * m + t][2 * half], v[4 * m + t][2 * half + 1]);
        }
        gather_quad(r);
        T* at = to + (row + 8 * half) * kStates + (4 * m + lane % 4) * 8;
        *reinterpret_cast<uint4*>(at) = make_uint4(r[0], r[1], r[2], r[3]);
      }
    }
  }

  /// In the registers' own order: 64 * kStates floats.
  __device__ void store_raw(float* to) const {
#pragma unroll
    for (int n = 0; n < kStates / 8; ++n) {
      reinterpret_cast<float4*>(to)[n * kSsdThreads + tile_thread()] =
          make_float4(v[n][0], v[n][1], v[n][2], v[n][3]);
    }
  }
  __device__ void add_raw(const float* from) {
#pragma unroll
    for (int n = 0; n < kStates / 8; ++n) {
      const float4 x = reinterpret_cast<const float4*>(from)[n * kSsdThreads + tile_thread()];
      v[n][0] += x.x, v[n][1] += x.y, v[n][2] += x.z, v[n][3] += x.w;
    }
  }
};

/// Rows 16 k to 16 k + 15 of a chunk's [pos][d_head] tile, transposed, this warp's 16 columns.
__device__ __forceinline__ void load_columns(uint32_t (&a)[4], uint32_t tile, int k) {
  load_matrices_transposed(a, crossed_address(tile, 16 * k, tile_warp() * 16));
}

/// The same operand with each position scaled.
template <typename T>
__device__ __forceinline__ void scale_columns(uint32_t (&a)[4], const float* weight_of_pos, int k) {
  const float* w = weight_of_pos + 16 * k + threadIdx.x % 4 * 2;
  const float2 low = make_float2(w[0], w[1]), high = make_float2(w[8], w[9]);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 x = unpack_pair<T>(a[i]), by = i < 2 ? low : high;
    a[i] = pack_pair<T>(x.x * by.x, x.y * by.y);
  }
}

/// state += (columns) (rows 16 k to 16 k + 15 of a [pos][d_state] tile).
template <typename T, int kStates>
__device__ __forceinline__ void add_outer(StateRows<kStates>& state, const uint32_t (&columns)[4],
                                          uint32_t tile, int k) {
#pragma unroll
  for (int n = 0; n < kStates / 16; ++n) {
    uint32_t b[4];
    load_matrices_transposed(b, straight_address(tile, 16 * k, 16 * n));
    mma<T>(state.v[2 * n], columns, b[0], b[1]);
    mma<T>(state.v[2 * n + 1], columns, b[2], b[3]);
  }
}

#ifdef HEADLENS_SSD_WGMMA
/// Starts state += (all 64 columns) (rows of a [pos][d_state] tile) as a group of its own.
template <typename T, int kStates>
__device__ __forceinline__ void start_outer(StateRows<kStates>& state,
                                            const uint32_t (&columns)[kSsdChunk / 16][4],
                                            uint32_t tile) {
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
#pragma unroll
    for (int panel = 0; panel < kStates / 64; ++panel) {
      const uint64_t rows = warpgroup_tile(tile + panel * kPanelBytes + k * 16 * 128);
      warpgroup_mma<T, 1>(state.panel(panel), columns[k], rows, true);
    }
  }
  warpgroup_commit();
}
#endif

/// The state takes a chunk in: decays over it, and adds (rows of u)^T (rows of v), weighted.
template <typename T, int kStates>
__device__ __forceinline__ void add_chunk(StateRows<kStates>& state, uint32_t u, uint32_t v,
                                          float decay, const float* weight_of_pos) {
  uint32_t columns[kSsdChunk / 16][4];
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
    load_columns(columns[k], u, k);
    scale_columns<T>(columns[k], weight_of_pos, k);
  }
  state.scale(decay);
#ifdef HEADLENS_SSD_WGMMA
  warpgroup_fence();
  start_outer<T>(state, columns, v);
  warpgroup_wait<0>();
#else
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) add_outer<T>(state, columns[k], v, k);
#endif
}

}  // namespace headlens
