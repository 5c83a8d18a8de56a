// headlens/kernels: sums of S6 steps over tiles of positions, and the tiles before each.
#include "map_parts.cuh"
#include "s6_map.h"

namespace headlens {
namespace {

constexpr int kChannels = 32;  // of a block
constexpr int kThreads = 256;

// Sums are of positive numbers going one way, never differences: small ones keep their digits.
__global__ void __launch_bounds__(kThreads) tile_sums(S6Steps p) {
  __shared__ float dt[kChannels][kS6Tile + 1];
  const int64_t tile = blockIdx.x, first = tile * kS6Tile, b = blockIdx.z;
  const int64_t channel0 = int64_t{blockIdx.y} * kChannels;
  for (int at = threadIdx.x; at < kS6Tile * kChannels; at += kThreads) {
    const int64_t pos = first + at / kChannels, channel = channel0 + at % kChannels;
    float value = 0;
    if (pos < p.pos && channel < p.channels) {
      value = load_any(p.dt, b * p.batch_stride + pos * p.pos_stride + channel * p.channel_stride,
                       p.dtype);
    }
    dt[at % kChannels][at / kChannels] = value;
  }
  __syncthreads();
  const int lane = threadIdx.x % 32, tiles = static_cast<int>(p.padded / kS6Tile);
  for (int c = threadIdx.x / 32; c < kChannels; c += kThreads / 32) {
    const int64_t channel = channel0 + c;
    if (channel >= p.channels) return;
    const float2 own = {dt[c][2 * lane], dt[c][2 * lane + 1]};
    const float pair = own.x + own.y;
    float from = pair;  // sum of this lane's pair and those after it
    for (int step = 1; step < 32; step *= 2) {
      const float more = __shfl_down_sync(0xffffffffu, from, step);
      if (lane + step < 32) from += more;
    }
    const float after = __shfl_down_sync(0xffffffffu, from, 1);
    const float rest = lane < 31 ? after : 0.0f;
    const int64_t line = b * p.channels + channel;
    if (p.suffix != nullptr) {
      const int64_t at = line * p.padded + first + 2 * lane;
      *reinterpret_cast<float2*>(p.suffix + at) = {rest + own.y, rest};
      *reinterpret_cast<float2*>(p.by_channel + at) = own;
    }
    if (lane == 0) p.before[line * (tiles + 1) + tile + 1] = from;
  }
}

// One warp a channel: the tiles' sums become sums of all before.
__global__ void __launch_bounds__(kThreads) sums_before(S6Steps p) {
  const int64_t line = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (line >= p.batch * p.channels) return;
  const int lane = threadIdx.x % 32, tiles = static_cast<int>(p.padded / kS6Tile);
  double* before = p.before + line * (tiles + 1);
  double carried = 0;
  for (int first = 1; first <= tiles; first += 32) {
    double sum = first + lane <= tiles ? before[first + lane] : 0.0;
    for (int step = 1; step < 32; step *= 2) {
      const double more = __shfl_up_sync(0xffffffffu, sum, step);
      if (lane >= step) sum += more;
    }
    sum += carried;
    if (first + lane <= tiles) before[first + lane] = sum;
    carried = __shfl_sync(0xffffffffu, sum, 31);
  }
  if (lane == 0) before[0] = 0;
}

}  // namespace

cudaError_t launch_s6_steps(const S6Steps& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.padded / kS6Tile),
                  static_cast<unsigned>((p.channels + kChannels - 1) / kChannels),
                  static_cast<unsigned>(p.batch));
  tile_sums<<<grid, kThreads, 0, stream>>>(p);
  const int64_t lines = p.batch * p.channels, per_block = kThreads / 32;
  sums_before<<<static_cast<unsigned>((lines + per_block - 1) / per_block), kThreads, 0, stream>>>(
      p);
  return cudaGetLastError();
}

}  // namespace headlens
