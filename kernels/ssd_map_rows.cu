// headlens/kernels: chosen rows of the maps of Mamba-2 heads.
#include "map_parts.cuh"
#include "ssd_map.h"

namespace headlens {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 32;  // of a block
constexpr int kPerWarp = kHeads / (kThreads / 32);
constexpr double kLog2EDouble = 1.4426950408889634074;

__device__ __forceinline__ int64_t tiles_of(const SsdMapRowsParams& p) {
  return (p.in.pos + kSsdTile - 1) / kSsdTile;
}
__device__ __forceinline__ int64_t chosen_head(const SsdMapRowsParams& p, int64_t at) {
  return p.chosen != nullptr ? p.chosen[at] : at;
}
__device__ __forceinline__ float log_decay(const SsdMapRowsParams& p, int64_t b, int64_t pos,
                                           int64_t head) {
  const int64_t* d = p.in.log_decay_strides;
  const float value =
      load_any(p.in.log_decay, b * d[0] + pos * d[1] + head * d[2], p.in.log_decay_dtype);
  return value < p.floor ? p.floor : value;
}

__global__ void __launch_bounds__(kThreads) tile_sums(SsdMapRowsParams p) {
  const int64_t head = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t tile = blockIdx.y, b = blockIdx.z;
  if (head >= p.in.heads) return;
  double sum = 0;
#pragma unroll 8
  for (int k = 0; k < kSsdTile; ++k) {
    const int64_t pos = tile * kSsdTile + k;
    if (pos < p.in.pos) sum += log_decay(p, b, pos, head);
  }
  p.before[(b * (tiles_of(p) + 1) + tile + 1) * p.in.heads + head] = sum * kLog2EDouble;
}

__global__ void __launch_bounds__(kThreads) sums_before(SsdMapRowsParams p) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x, tiles = tiles_of(p);
  if (at >= p.in.batch * p.in.heads) return;
  double* before = p.before + at / p.in.heads * (tiles + 1) * p.in.heads + at % p.in.heads;
  double sum = 0;
  before[0] = 0;
#pragma unroll 8
  for (int64_t tile = 1; tile <= tiles; ++tile) {
    sum += before[tile * p.in.heads];
    before[tile * p.in.heads] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) sum_to_rows(SsdMapRowsParams p) {
  const int64_t at = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const int64_t b = blockIdx.x / p.row_count, r = blockIdx.x % p.row_count;
  if (at >= p.chosen_count) return;
  const int64_t head = chosen_head(p, at), row = p.rows[b * p.row_count + r];
  const int64_t tile = row / kSsdTile;
  double sum = 0;
  for (int64_t pos = tile * kSsdTile; pos <= row; ++pos) sum += log_decay(p, b, pos, head);
  p.row_sums[(b * p.row_count + r) * p.chosen_count + at] =
      sum * kLog2EDouble + p.before[(b * (tiles_of(p) + 1) + tile) * p.in.heads + head];
}

// C_i.B_j for a key, the states from `from` on in steps of `step`.
__device__ __forceinline__ float score(const SsdMapRowsParams& p, int64_t b, int64_t row,
                                       int64_t pos, int64_t group, int from, int step) {
  const int64_t *c = p.in.C_strides, *d = p.in.B_strides;
  const int64_t c_at = b * c[0] + row * c[1] + group * c[2];
  const int64_t b_at = b * d[0] + pos * d[1] + group * d[2];
  float sum = 0;
  for (int n = from; n < p.in.d_state; n += step) {
    sum = fmaf(load_any(p.in.C, c_at + n, p.in.C_dtype), load_any(p.in.B, b_at + n, p.in.B_dtype),
               sum);
  }
  return sum;
}

// Sums of log2 decay after keys `lane` and `lane + 32` to the end of the tile.
__device__ __forceinline__ void sum_after(const float (&own)[2], float (&sum)[2]) {
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
  sum[0] = far_half + (lane < 31 ? after0 : 0.0f);
  sum[1] = lane < 31 ? after1 : 0.0f;
}

// One row of 32 heads over a tile of keys; scores of the first head's group are shared.
__global__ void __launch_bounds__(kThreads) map_rows(SsdMapRowsParams p) {
  __shared__ float decay[kHeads][kSsdTile + 1], dt[kHeads][kSsdTile + 1], scores[kSsdTile];
  const int64_t tile = blockIdx.x % tiles_of(p), at_row = blockIdx.x / tiles_of(p);
  const int64_t b = at_row / p.row_count, r = at_row % p.row_count;
  const int64_t first = tile * kSsdTile, head0 = int64_t{blockIdx.y} * kHeads;
  const int64_t row = p.rows[b * p.row_count + r], shared = p.in.heads / p.in.groups;
  // Decays after the row count nothing: sums to the tile's end are then sums to the row.
  for (int at = threadIdx.x; at < kSsdTile * kHeads; at += kThreads) {
    const int64_t pos = first + at / kHeads, h = head0 + at % kHeads;
    const bool inside = pos <= row && h < p.chosen_count;
    float log = 0, step = 0;
    if (inside) {
      const int64_t head = chosen_head(p, h), *d = p.in.dt_strides;
      log = log_decay(p, b, pos, head) * kLog2E;
      step = p.in.dt == nullptr
                 ? 1.0f
                 : load_any(p.in.dt, b * d[0] + pos * d[1] + head * d[2], p.in.dt_dtype);
    }
    decay[at % kHeads][at / kHeads] = log, dt[at % kHeads][at / kHeads] = step;
  }
  const int64_t group0 = chosen_head(p, head0) / shared;
  {
    const int key = threadIdx.x / 4;
    const bool inside = first + key <= row;
    float sum = inside ? score(p, b, row, first + key, group0, threadIdx.x % 4, 4) : 0.0f;
    sum = quad_sum(sum);
    if (threadIdx.x % 4 == 0) scores[key] = sum;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32;
  int64_t group = group0;
  float own[2] = {scores[lane], scores[lane + 32]};
  for (int h = threadIdx.x / 32 * kPerWarp; h < (threadIdx.x / 32 + 1) * kPerWarp; ++h) {
    if (head0 + h >= p.chosen_count) return;
    const int64_t head = chosen_head(p, head0 + h);
    if (head / shared != group) {
      group = head / shared;
      for (int k = 0; k < 2; ++k) {
        const int64_t key = first + lane + 32 * k;
        own[k] = key <= row ? score(p, b, row, key, group, 0, 1) : 0.0f;
      }
    }
    const double end = p.before[(b * (tiles_of(p) + 1) + tile + 1) * p.in.heads + head];
    const double sum = p.row_sums[(b * p.row_count + r) * p.chosen_count + head0 + h];
    const float rest = row >= first + kSsdTile ? static_cast<float>(sum - end) : 0.0f;
    const float log[2] = {decay[h][lane], decay[h][lane + 32]};
    float after[2];
    sum_after(log, after);
    const int64_t line = ((b * p.chosen_count + head0 + h) * p.row_count + r) * p.in.pos;
    for (int k = 0; k < 2; ++k) {
      const int64_t key = first + lane + 32 * k;
      if (key < p.in.pos) {
        p.out[line + key] =
            key <= row ? own[k] * exp2_fast(rest + after[k]) * dt[h][lane + 32 * k] : 0.0f;
      }
    }
  }
}

}  // namespace

cudaError_t launch_ssd_map_rows(const SsdMapRowsParams& p, cudaStream_t stream) {
  if (p.chosen_count == 0 || p.row_count == 0) return cudaSuccess;
  const auto blocks = [](int64_t n, int64_t per) {
    return static_cast<unsigned>((n + per - 1) / per);
  };
  const auto batch = static_cast<unsigned>(p.in.batch);
  const auto rows = static_cast<unsigned>(p.in.batch * p.row_count);
  const unsigned tiles = blocks(p.in.pos, kSsdTile);
  tile_sums<<<dim3(blocks(p.in.heads, kThreads), tiles, batch), kThreads, 0, stream>>>(p);
  sums_before<<<blocks(p.in.batch * p.in.heads, kThreads), kThreads, 0, stream>>>(p);
  sum_to_rows<<<dim3(rows, blocks(p.chosen_count, kThreads)), kThreads, 0, stream>>>(p);
  map_rows<<<dim3(rows * tiles, blocks(p.chosen_count, kHeads)), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace headlens
