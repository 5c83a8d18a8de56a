// headlens/kernels: mass of state-space map rows on sets of keys, for every row.
#include "map_parts.cuh"
#include "s6_map.h"
#include "ssd_map.h"

namespace headlens {
namespace {

constexpr int kThreads = 128;

// A block has a row, a warp some of the groups: a score per key, then the group's heads.
__global__ void __launch_bounds__(kThreads) ssd_map_sets(SsdMapSetsParams p) {
  const SsdMapTerms& t = p.terms;
  const SsdMapInputs& in = t.in;
  const int64_t row = blockIdx.x, b = blockIdx.z, shared = in.heads / in.groups;
  const int64_t slots = in.groups * t.eights * kSsdEight, tiles = t.padded / kSsdTile;
  const int lane = threadIdx.x % 32;
  for (int64_t group = threadIdx.x / 32; group < in.groups; group += kThreads / 32) {
    for (int64_t at = 0; at < p.sets * p.each; ++at) {
      const int64_t key = p.keys[(b * in.pos + row) * p.sets * p.each + at];
      if (key < 0 || key > row) continue;
      const int64_t *c = in.C_strides, *d = in.B_strides;
      float score = 0;
      for (int n = lane; n < in.d_state; n += 32) {
        score = fmaf(load_any(in.C, b * c[0] + row * c[1] + group * c[2] + n, in.C_dtype),
                     load_any(in.B, b * d[0] + key * d[1] + group * d[2] + n, in.B_dtype), score);
      }
      score = fabsf(warp_sum(score));
      for (int64_t h = lane; h < shared; h += 32) {
        const int64_t slot = group * t.eights * kSsdEight + h, head = group * shared + h;
        const double* before = t.before + b * (tiles + 1) * slots + slot;
        const double tiles_apart = before[row / kSsdTile * slots] - before[key / kSsdTile * slots];
        const float2 to = t.inside[(b * t.padded + row) * slots + slot];
        const float2 from = t.inside[(b * t.padded + key) * slots + slot];
        const double decay = tiles_apart + ((static_cast<double>(to.x) - from.x) + to.y - from.y);
        const int64_t* e = in.dt_strides;
        const float dt = in.dt == nullptr
                             ? 1.0f
                             : load_any(in.dt, b * e[0] + key * e[1] + head * e[2], in.dt_dtype);
        p.out[((b * in.heads + head) * in.pos + row) * p.sets + at / p.each] +=
            score * exp2_fast(static_cast<float>(decay)) * fabsf(dt);
      }
    }
  }
}

// A thread has a row of a channel.
__global__ void __launch_bounds__(kThreads) s6_map_sets(S6MapSetsParams p) {
  const S6Steps& t = p.steps;
  const int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x, b = blockIdx.z;
  if (row >= t.pos) return;
  const int64_t channel = blockIdx.y, line = b * t.channels + channel;
  const double* before = t.before + line * (t.padded / kS6Tile + 1);
  const float* dt = t.by_channel + line * t.padded;
  const float* A = p.A + channel * kS6States;
  const float* read = p.C + (b * t.padded + row) * kS6States;
  const int64_t tile = row / kS6Tile;
  for (int64_t set = 0; set < p.sets; ++set) {
    float mass = 0;
    for (int64_t at = 0; at < p.each; ++at) {
      const int64_t key = p.keys[((b * t.pos + row) * p.sets + set) * p.each + at];
      if (key < 0 || key > row) continue;
      const int64_t from = key / kS6Tile;
      // Steps are summed from the key's tile end, or from the key, up to the row.
      float distance = 0;
      for (int64_t pos = from == tile ? key + 1 : tile * kS6Tile; pos <= row; ++pos) {
        distance += dt[pos];
      }
      if (from != tile) {
        distance +=
            t.suffix[line * t.padded + key] + static_cast<float>(before[tile] - before[from + 1]);
      }
      const float* write = p.B + (b * t.padded + key) * kS6States;
      float sum = 0;
      for (int n = 0; n < kS6States; ++n) {
        sum = fmaf(read[n] * write[n], exp2_fast(A[n] * kLog2E * distance), sum);
      }
      mass += fabsf(sum * dt[key]);
    }
    p.out[(line * t.pos + row) * p.sets + set] = mass;
  }
}

}  // namespace

cudaError_t launch_ssd_map_sets(const SsdMapSetsParams& p, cudaStream_t stream) {
  const SsdMapInputs& in = p.terms.in;
  const dim3 grid(static_cast<unsigned>(in.pos), 1, static_cast<unsigned>(in.batch));
  ssd_map_sets<<<grid, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

cudaError_t launch_s6_map_sets(const S6MapSetsParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((p.steps.pos + kThreads - 1) / kThreads),
                  static_cast<unsigned>(p.steps.channels), static_cast<unsigned>(p.steps.batch));
  s6_map_sets<<<grid, kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace headlens
