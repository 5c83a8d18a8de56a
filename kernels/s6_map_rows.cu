// headlens/kernels: chosen rows of the maps of Mamba-1 channels.
#include "map_parts.cuh"
#include "s6_map.h"

namespace headlens {
namespace {

constexpr int kChannels = 32;  // of a block
constexpr int kThreads = 256;
constexpr int kStates = 16;  // taken at a time
constexpr int kPerWarp = kChannels / (kThreads / 32);

__device__ __forceinline__ int64_t chosen_channel(const S6MapRowsParams& p, int64_t at) {
  return p.chosen != nullptr ? p.chosen[at] : at;
}

__device__ __forceinline__ float step(const S6Steps& p, int64_t b, int64_t pos, int64_t channel) {
  return load_any(p.dt, b * p.batch_stride + pos * p.pos_stride + channel * p.channel_stride,
                  p.dtype);
}

// row_sums[b, r, c]: dt up to and with the row, in float64.
__global__ void __launch_bounds__(kThreads) sum_to_rows(S6MapRowsParams p) {
  const int64_t at = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const int64_t b = blockIdx.x / p.row_count, r = blockIdx.x % p.row_count;
  if (at >= p.chosen_count) return;
  const int64_t channel = chosen_channel(p, at), row = p.rows[b * p.row_count + r];
  const int64_t tile = row / kS6Tile, tiles = p.steps.padded / kS6Tile;
  double sum = p.steps.before[(b * p.steps.channels + channel) * (tiles + 1) + tile];
  for (int64_t pos = tile * kS6Tile; pos <= row; ++pos) sum += step(p.steps, b, pos, channel);
  p.row_sums[(b * p.row_count + r) * p.chosen_count + at] = sum;
}

// What a lane has of a tile: keys `lane` and `lane + 32` of each of its warp's channels.
struct Lane {
  float own[kPerWarp][2], distance[kPerWarp][2], sum[kPerWarp][2];
};

// Sums of the steps after each key to the end of the tile, and from there to the row.
__device__ __forceinline__ void sum_after(const float (&own)[2], float rest, float (&distance)[2]) {
  const int lane = threadIdx.x % 32;
  float from[2] = {own[0], own[1]};
  for (int width = 1; width < 32; width *= 2) {
    const float more0 = __shfl_down_sync(0xffffffffu, from[0], width);
    const float more1 = __shfl_down_sync(0xffffffffu, from[1], width);
    if (lane + width < 32) from[0] += more0, from[1] += more1;
  }
  const float far_half = __shfl_sync(0xffffffffu, from[1], 0);
  const float after0 = __shfl_down_sync(0xffffffffu, from[0], 1);
  const float after1 = __shfl_down_sync(0xffffffffu, from[1], 1);
  distance[0] = rest + far_half + (lane < 31 ? after0 : 0.0f);
  distance[1] = rest + (lane < 31 ? after1 : 0.0f);
}

// C_i[n] B_j[n] of kStates states from n0 on, which all channels share.
__device__ __forceinline__ void load_pairs(const S6MapRowsParams& p, const float* read,
                                           const float* write, int64_t keys, int n0,
                                           float (*pairs)[kStates + 1]) {
  const int count = static_cast<int>(p.d_state) - n0;
  for (int at = threadIdx.x; at < kS6Tile * kStates; at += kThreads) {
    const int key = at / kStates, n = at % kStates;
    const bool some = n < count && key < keys;
    pairs[key][n] = some ? read[n0 + n] * write[key * p.d_state + n0 + n] : 0.0f;
  }
}

// Adds the states to a warp's channels.
__device__ __forceinline__ void add_states(const S6MapRowsParams& p, int n0,
                                           const float (*pairs)[kStates + 1],
                                           const float* const (&A)[kPerWarp], Lane& t) {
  const int lane = threadIdx.x % 32, count = static_cast<int>(p.d_state) - n0;
  float pair[2][kStates];
#pragma unroll
  for (int n = 0; n < kStates; ++n) {
    for (int k = 0; k < 2; ++k) pair[k][n] = pairs[lane + 32 * k][n];
  }
#pragma unroll
  for (int c = 0; c < kPerWarp; ++c) {
    // A lane has the rate of one state and hands it round.
    const float own = lane < count && lane < kStates ? A[c][n0 + lane] * kLog2E : 0.0f;
#pragma unroll
    for (int n = 0; n < kStates; ++n) {
      const float rate = __shfl_sync(0xffffffffu, own, n);
      for (int k = 0; k < 2; ++k) {
        t.sum[c][k] = fmaf(pair[k][n], exp2_fast(rate * t.distance[c][k]), t.sum[c][k]);
      }
    }
  }
}

// One row of 32 channels over a tile of keys.
__global__ void __launch_bounds__(kThreads) map_rows(S6MapRowsParams p) {
  __shared__ float dt[kChannels][kS6Tile + 1], pairs[kS6Tile][kStates + 1];
  const int64_t key_tiles = (p.steps.pos + kS6Tile - 1) / kS6Tile;
  const int64_t tile = blockIdx.x % key_tiles, at_row = blockIdx.x / key_tiles;
  const int64_t b = at_row / p.row_count, r = at_row % p.row_count;
  const int64_t first = tile * kS6Tile, channel0 = int64_t{blockIdx.y} * kChannels;
  const int64_t row = p.rows[b * p.row_count + r], tiles = p.steps.padded / kS6Tile;
  // Steps after the row count nothing: sums to the tile's end are then sums to the row.
  for (int at = threadIdx.x; at < kS6Tile * kChannels; at += kThreads) {
    const int64_t pos = first + at / kChannels, c = channel0 + at % kChannels;
    const bool inside = pos <= row && c < p.chosen_count;
    dt[at % kChannels][at / kChannels] =
        inside ? step(p.steps, b, pos, chosen_channel(p, c)) : 0.0f;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32, c0 = threadIdx.x / 32 * kPerWarp;
  Lane t;
  const float* A[kPerWarp];
#pragma unroll
  for (int c = 0; c < kPerWarp; ++c) {
    const int64_t at = min(channel0 + c0 + c, p.chosen_count - 1), channel = chosen_channel(p, at);
    A[c] = p.A + channel * p.d_state;
    const double end = p.steps.before[(b * p.steps.channels + channel) * (tiles + 1) + tile + 1];
    const double sum = p.row_sums[(b * p.row_count + r) * p.chosen_count + at];
    const float rest = row >= first + kS6Tile ? static_cast<float>(sum - end) : 0.0f;
    for (int k = 0; k < 2; ++k) t.own[c][k] = dt[c0 + c][lane + 32 * k], t.sum[c][k] = 0;
    sum_after(t.own[c], rest, t.distance[c]);
  }
  const float* read = p.C + (b * p.steps.pos + row) * p.d_state;
  const float* write = p.B + (b * p.steps.pos + first) * p.d_state;
  const int64_t states = first <= row ? p.d_state : 0;
  for (int n0 = 0; n0 < states; n0 += kStates) {
    __syncthreads();
    load_pairs(p, read, write, row + 1 - first, n0, pairs);
    __syncthreads();
    add_states(p, n0, pairs, A, t);
  }
#pragma unroll
  for (int c = 0; c < kPerWarp; ++c) {
    const int64_t at = channel0 + c0 + c;
    const int64_t line = ((b * p.chosen_count + at) * p.row_count + r) * p.steps.pos;
    for (int k = 0; k < 2; ++k) {
      const int64_t key = first + lane + 32 * k;
      if (at < p.chosen_count && key < p.steps.pos) p.out[line + key] = t.sum[c][k] * t.own[c][k];
    }
  }
}

}  // namespace

cudaError_t launch_s6_map_rows(const S6MapRowsParams& p, cudaStream_t stream) {
  if (p.chosen_count == 0 || p.row_count == 0) return cudaSuccess;
  const auto blocks = [](int64_t n, int64_t per) {
    return static_cast<unsigned>((n + per - 1) / per);
  };
  const auto rows = static_cast<unsigned>(p.steps.batch * p.row_count);
  sum_to_rows<<<dim3(rows, blocks(p.chosen_count, kThreads)), kThreads, 0, stream>>>(p);
  const dim3 grid(rows * blocks(p.steps.pos, kS6Tile), blocks(p.chosen_count, kChannels));
  map_rows<<<grid, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace headlens
