// headlens/kernels: the pieces of a chunk's gradients in the Mamba-2 scan.
#pragma once

#include "ssd_sweep.cuh"

namespace headlens {

// Eight warps: warp w has rows 16 (w % 4) .. and half w / 4 of the columns of every product.
constexpr int kGradThreads = 256;

/// Shared memory: B and C of the chunk; two stages of a head's x, dy, the state that enters and the
/// gradient of the one that leaves (both [d_head][d_state]); the map.
template <int kStates>
struct GradShared {
  static constexpr int kStateBytes = kPanelBytes * (kStates / 64);
  static constexpr int kStageBytes = 2 * kPanelBytes + 2 * kStateBytes;
  static constexpr int kBytes = 2 * kStateBytes + 2 * kStageBytes + kPanelBytes;
  uint32_t B, C, x, dy, entering, leaving, map;

  __device__ GradShared(const char* shared, int stage) {
    B = shared_address(shared);
    C = B + kStateBytes;
    x = C + kStateBytes + stage * kStageBytes;
    dy = x + kPanelBytes;
    entering = dy + kPanelBytes;
    leaving = entering + kStateBytes;
    map = C + kStateBytes + 2 * kStageBytes;
  }
};

/// Sums of one head over its chunk, one part for every warp that has a share.
struct GradParts {
  float row[2][kSsdChunk];     // sum over j < i of dmap_ij map_ij
  float column[4][kSsdChunk];  // sum over i > j of the same without dt_j
  float diagonal[kSsdChunk];   // its term i = j
  float entering[2][kSsdChunk];
  float leaving[2][kSsdChunk];  // without dt_j
  float whole[kGradThreads / 32];
};

__device__ __forceinline__ int grad_strip() {
  return threadIdx.x / 32 % 4;
}
__device__ __forceinline__ int grad_half() {
  return threadIdx.x / 128;
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

template <int kTiles>
__device__ __forceinline__ void set_zero(float (&d)[kTiles][4]) {
#pragma unroll
  for (auto& v : d) v[0] = v[1] = v[2] = v[3] = 0.0f;
}

/// d (16 x 8 kTiles) += rows of a [m][k] times rows of b [n][k], over kSteps * 16 of k.
template <typename T, int kTiles, int kSteps>
__device__ __forceinline__ void multiply_rows(float (&d)[kTiles][4], uint32_t a_tile, int a_row,
                                              uint32_t b_tile, int b_row) {
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    uint32_t a[4], b[4];
    load_matrices(a, straight_address(a_tile, a_row, 16 * k));
#pragma unroll
    for (int n = 0; n < kTiles / 2; ++n) {
      load_matrices(b, crossed_address(b_tile, b_row + 16 * n, 16 * k));
      mma<T>(d[2 * n], a, b[0], b[1]);
      mma<T>(d[2 * n + 1], a, b[2], b[3]);
    }
  }
}

/// d += a times b, where b is rows 16 k .. of a tile [k][n], columns from b_column.
template <typename T, int kTiles>
__device__ __forceinline__ void multiply_columns(float (&d)[kTiles][4], const uint32_t (&a)[4],
                                                 uint32_t b_tile, int k, int b_column) {
#pragma unroll
  for (int n = 0; n < kTiles / 2; ++n) {
    uint32_t b[4];
    load_matrices_transposed(b, straight_address(b_tile, 16 * k, b_column + 16 * n));
    mma<T>(d[2 * n], a, b[0], b[1]);
    mma<T>(d[2 * n + 1], a, b[2], b[3]);
  }
}

/// The 16 x 32 part of a chunk's [i][j] matrices that a warp has; future blocks are left out.
struct MapPart {
  int row, column;  // of this lane's first element

  __device__ MapPart() {
    const int lane = threadIdx.x % 32;
    row = 16 * grad_strip() + lane / 4;
    column = 32 * grad_half() + lane % 4 * 2;
  }
  /// Whether tile n (8 columns) has anything in the past; the same for all lanes.
  __device__ bool past(int n) const { return 2 * grad_half() + n / 2 <= grad_strip(); }
  __device__ int i(int e) const { return row + e / 2 * 8; }
  __device__ int j(int n, int e) const { return column + 8 * n + e % 2; }

  /// Stores as T into a tile; elements of the future must be 0.
  template <typename T>
  __device__ void store(uint32_t tile, int n, const float (&v)[4]) const {
    const int piece = 4 * grad_half() + n, byte = threadIdx.x % 4 * 4;
    store_shared(tile + swizzled(row, piece) + byte, pack_pair<T>(v[0], v[1]));
    store_shared(tile + swizzled(row + 8, piece) + byte, pack_pair<T>(v[2], v[3]));
  }
};

/// From dmap = dy x^T: adds to dscores, writes the map, and the sums that decays and dt need.
template <typename T>
__device__ void map_grads(const float (&scores)[4][4], const float (&dmap)[4][4],
                          float (&dscores)[4][4], const ChunkDecays& d, uint32_t map,
                          GradParts& parts) {
  const MapPart part;
  const int lane = threadIdx.x % 32;
  const float sums[2] = {d.sum[part.i(0)], d.sum[part.i(2)]};
  float row[2] = {};
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    float column[2] = {}, value[4];
    if (part.past(n)) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int i = part.i(e), j = part.j(n, e);
        const float decay = j > i ? 0.0f : exp2_fast(sums[e / 2] - d.sum[j]);
        const float decayed = scores[n][e] * decay, change = dmap[n][e] * decayed;
        value[e] = decayed * d.dt[j];
        dscores[n][e] += dmap[n][e] * decay * d.dt[j];
        if (j == i) {
          parts.diagonal[i] = change;
        } else {
          row[e / 2] += change * d.dt[j];
          column[e % 2] += change;
        }
      }
      part.store<T>(map, n, value);
    }
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      for (int offset = 4; offset < 32; offset *= 2) {
        column[e] += __shfl_xor_sync(0xffffffffu, column[e], offset);
      }
      if (lane < 4) parts.column[grad_strip()][part.j(n, e)] = column[e];
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    row[half] = quad_sum(row[half]);
    if (lane % 4 == 0) parts.row[grad_half()][part.row + 8 * half] = row[half];
  }
}

/// total += factor_i change_i, and into part[i] factor_i (change_i . row i of `with`).
template <typename T, int kTiles>
__device__ void add_weighted(float (&total)[kTiles][4], const float (&change)[kTiles][4],
                             const float* factor, const float* part_factor, uint32_t with,
                             float* part) {
  const int lane = threadIdx.x % 32, row = 16 * grad_strip() + lane / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int i = row + 8 * half;
    const float by = factor[i];
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const int piece = grad_half() * kTiles + n;
      const float2 w = unpack_pair<T>(
          load_shared(with + piece / 8 * kPanelBytes + swizzled(i, piece % 8) + lane % 4 * 4));
      const float a = change[n][2 * half], b = change[n][2 * half + 1];
      sum += a * w.x + b * w.y;
      total[n][2 * half] += by * a, total[n][2 * half + 1] += by * b;
    }
    sum = quad_sum(sum);
    if (lane % 4 == 0) part[i] = part_factor[i] * sum;
  }
}

/// The warp's share of (state that enters) . (gradient of the one that leaves).
template <typename T, int kStates>
__device__ void multiply_states(const GradShared<kStates>& s, float* part) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kStates * kSsdTile / 2 / kGradThreads; ++i) {
    const uint32_t at = (i * kGradThreads + threadIdx.x) * 4;
    const float2 a = unpack_pair<T>(load_shared(s.entering + at));
    const float2 b = unpack_pair<T>(load_shared(s.leaving + at));
    sum += a.x * b.x + a.y * b.y;
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, offset);
  }
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
}

/// Gradients of dt and log_decay of one head, two positions a lane of one warp, summed over its
/// tiles. A step's decay scales every path that crosses it: from j < t to i >= t, from the state
/// that enters to i >= t, from j < t to the state that leaves, and from the one to the other.
struct DecayGrads {
  float dt[2] = {}, log_decay[2] = {};

  __device__ void add(const GradParts& parts, const ChunkDecays& d) {
    const int lane = threadIdx.x % 32;
    float whole = 0.0f, read[2], written[2];
#pragma unroll
    for (const float part : parts.whole) whole += part;
    whole *= d.from[kSsdChunk - 1];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int t = 2 * lane + e;
      const float column =
          parts.column[0][t] + parts.column[1][t] + parts.column[2][t] + parts.column[3][t];
      const float leaving = parts.leaving[0][t] + parts.leaving[1][t];
      dt[e] += column + parts.diagonal[t] + leaving;
      read[e] = parts.row[0][t] + parts.row[1][t] - column * d.dt[t] + parts.entering[0][t] +
                parts.entering[1][t];
      written[e] = leaving * d.dt[t];
    }
    float after = read[0] + read[1], before = written[0] + written[1];
    for (int offset = 1; offset < 32; offset *= 2) {
      const float right = __shfl_down_sync(0xffffffffu, after, offset);
      const float left = __shfl_up_sync(0xffffffffu, before, offset);
      after += lane + offset < 32 ? right : 0.0f;
      before += lane >= offset ? left : 0.0f;
    }
    const float beyond = __shfl_down_sync(0xffffffffu, after, 1);
    const float until = __shfl_up_sync(0xffffffffu, before, 1);
    const float first = lane > 0 ? until : 0.0f;
    log_decay[0] += after + first + whole;
    log_decay[1] += (lane < 31 ? beyond : 0.0f) + read[1] + first + written[0] + whole;
  }
};

}  // namespace headlens
