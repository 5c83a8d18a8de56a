// headlens/kernels: figures of state-space map rows that are at hand, a block a row.
#include "map_row_stats.h"

#include "map_parts.cuh"

namespace headlens {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAll = 0xffffffffu;

struct Best {
  float value;
  int key;
};
__device__ __forceinline__ bool before(const Best& a, const Best& b) {
  return a.value > b.value || (a.value == b.value && a.key < b.key);
}

// The best of a warp's keys in falling order, one a lane of the first kTopMost; empty: -1.
struct Top {
  Best own{-1.0f, -1};

  // All lanes give the same entry, with a key after those already there.
  __device__ __forceinline__ void insert(Best entry, int top_k) {
    const int lane = threadIdx.x % 32;
    const unsigned ahead = __ballot_sync(kAll, lane < top_k && own.value >= entry.value);
    const int place = __popc(ahead);
    const Best left = {__shfl_up_sync(kAll, own.value, 1), __shfl_up_sync(kAll, own.key, 1)};
    if (lane == place) own = entry;
    if (lane > place) own = left;
  }
  __device__ __forceinline__ float least(int top_k) const {
    return __shfl_sync(kAll, own.value, top_k - 1);
  }
};

struct Shared {
  float mass[kWarps], log_mass[kWarps];
  Best best[kWarps], top[kWarps][kTopMost];
  float segments[kWarps][kSegmentMost];
};

struct Row {
  const MapRowStatsParams& p;
  const float* map;
  int64_t b, at;  // at: of [batch, head, row]
  int keys;
};

// Adds 32 entries to a warp's segments; each distinct one in turn, so that the order is fixed.
__device__ __forceinline__ void add_segments(float entry, int segment, float* masses) {
  unsigned left = __ballot_sync(kAll, segment >= 0);
  while (left != 0) {
    const int now = __shfl_sync(kAll, segment, __ffs(static_cast<int>(left)) - 1);
    const float sum = warp_sum(segment == now ? entry : 0.0f);
    if (threadIdx.x % 32 == 0) masses[now] += sum;
    left &= ~__ballot_sync(kAll, segment == now);
  }
}

// A warp's quarter of the row.
__device__ __forceinline__ void read_quarter(const Row& row, Shared& s) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int quarter = (row.keys + kThreads - 1) / kThreads * 32;
  const int end = min(row.keys, (warp + 1) * quarter);
  float mass = 0, log_mass = 0;
  Best best{-1.0f, row.keys};
  Top top;
  for (int first = warp * quarter; first < end; first += 32) {
    const int key = first + lane;
    const float entry = key < end ? fabsf(row.map[key]) : 0.0f;
    mass += entry;
    log_mass = fmaf(entry, log2_fast(entry + kLeast), log_mass);
    if (key < end && entry > best.value) best = {entry, key};
    if (row.p.segments != nullptr) {
      const int64_t from = row.b * row.p.segment_batch_stride + key;
      add_segments(entry, key < end ? row.p.segments[from] : -1, s.segments[warp]);
    }
    if (row.p.top_k > 0) {
      const float least = top.least(row.p.top_k);
      unsigned better = __ballot_sync(kAll, key < end && entry > least);
      for (; better != 0; better &= better - 1) {
        const int from = __ffs(static_cast<int>(better)) - 1;
        top.insert({__shfl_sync(kAll, entry, from), first + from}, row.p.top_k);
      }
    }
  }
  mass = warp_sum(mass), log_mass = warp_sum(log_mass);
  for (int step = 16; step > 0; step /= 2) {
    const Best other = {__shfl_xor_sync(kAll, best.value, step),
                        __shfl_xor_sync(kAll, best.key, step)};
    if (before(other, best)) best = other;
  }
  if (lane == 0) s.mass[warp] = mass, s.log_mass[warp] = log_mass, s.best[warp] = best;
  if (lane < kTopMost) s.top[warp][lane] = top.own;
}

__device__ __forceinline__ void write_top(const Row& row, const Shared& s, float scale) {
  const int lane = threadIdx.x % 32, top_k = row.p.top_k;
  Top top;
  for (int warp = 0; warp < kWarps; ++warp) {
    for (int k = 0; k < top_k; ++k) {
      const Best entry = s.top[warp][k];
      if (entry.key >= 0 && entry.value > top.least(top_k)) top.insert(entry, top_k);
    }
  }
  if (lane < top_k) {
    row.p.top_values[row.at * top_k + lane] = top.own.key >= 0 ? top.own.value * scale : 0.0f;
    row.p.top_keys[row.at * top_k + lane] = top.own.key;
  }
}

__global__ void __launch_bounds__(kThreads) map_row_stats(MapRowStatsParams p) {
  __shared__ Shared s;
  const int64_t at = blockIdx.x, r = at % p.row_count, b = at / (p.row_count * p.heads);
  const int64_t position = p.rows[b * p.row_count + r];
  const Row row{p, p.map + at * p.pos, b, at, static_cast<int>(min(position + 1, p.pos))};
  if (p.segments != nullptr) {
    for (int k = threadIdx.x; k < kWarps * kSegmentMost; k += kThreads) (&s.segments[0][0])[k] = 0;
  }
  __syncthreads();
  read_quarter(row, s);
  __syncthreads();
  float mass = 0, log_mass = 0;
  Best best{-1.0f, row.keys};
  for (int warp = 0; warp < kWarps; ++warp) {
    mass += s.mass[warp], log_mass += s.log_mass[warp];
    if (before(s.best[warp], best)) best = s.best[warp];
  }
  const float scale = mass > 0 ? 1.0f / mass : 0.0f;
  if (threadIdx.x == 0) {
    const float entropy = kLn2 * (log2_fast(mass) - log_mass * scale);
    p.row_mass[at] = mass;
    p.entropy[at] = mass > 0 ? fmaxf(entropy, 0.0f) : mass;  // a row of NaN stays one
    p.max[at] = mass > 0 ? best.value / mass : mass;
    p.argmax[at] = mass > 0 ? best.key : 0;
  }
  if (p.top_k > 0 && threadIdx.x < 32) write_top(row, s, scale);
  for (int k = threadIdx.x; p.segments != nullptr && k < p.num_segments; k += kThreads) {
    float sum = 0;
    for (int warp = 0; warp < kWarps; ++warp) sum += s.segments[warp][k];
    p.segment_mass[at * p.num_segments + k] = sum * scale;
  }
  for (int64_t set = threadIdx.x / 32; p.keys != nullptr && set < p.sets; set += kWarps) {
    float sum = 0;
    for (int64_t k = threadIdx.x % 32; k < p.each; k += 32) {
      const int64_t key = p.keys[((b * p.row_count + r) * p.sets + set) * p.each + k];
      if (key >= 0 && key < row.keys) sum += fabsf(row.map[key]);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) p.set_mass[at * p.sets + set] = sum * scale;
  }
}

}  // namespace

cudaError_t launch_map_row_stats(const MapRowStatsParams& p, cudaStream_t stream) {
  const int64_t rows = p.batch * p.heads * p.row_count;
  if (rows == 0) return cudaSuccess;
  map_row_stats<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace headlens
