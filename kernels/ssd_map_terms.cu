// headlens/kernels: what the figures of Mamba-2 maps read: B and C in planes, decayed weights of
// keys.
#include "map_parts.cuh"
#include "ssd_map.h"

namespace headlens {
namespace {

constexpr int kThreads = 256;
constexpr int kSlots = 32;  // of a block
constexpr float kNormSlack = 1.0001f;

__device__ __forceinline__ float warp_max(float x) {
  for (int offset = 16; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  return x;
}

// One tile of B (side 0) or C (side 1) of a group, a warp a position.
__global__ void __launch_bounds__(kThreads) pack(SsdMapTerms t) {
  __shared__ float norms[kSsdTile];
  const SsdMapInputs& in = t.in;
  const int side = blockIdx.z & 1, lane = threadIdx.x % 32;
  const int64_t b = blockIdx.z / 2, group = blockIdx.y, first = int64_t{blockIdx.x} * kSsdTile;
  const void* from = side == 0 ? in.B : in.C;
  const KernelDtype dtype = side == 0 ? in.B_dtype : in.C_dtype;
  const int64_t* strides = side == 0 ? in.B_strides : in.C_strides;
  auto* to = static_cast<__nv_bfloat16*>(side == 0 ? t.B : t.C);
  const int64_t line = b * in.groups + group, plane = in.batch * in.groups * t.padded * t.states;
  for (int at = threadIdx.x / 32; at < kSsdTile; at += kThreads / 32) {
    const int64_t pos = first + at, start = b * strides[0] + pos * strides[1] + group * strides[2];
    float squares = 0;
    for (int n = lane; n < t.states; n += 32) {
      float value = pos < in.pos && n < in.d_state ? load_any(from, start + n, dtype) : 0.0f;
      squares = fmaf(value, value, squares);
      for (int k = 0; k < t.planes; ++k) {
        const __nv_bfloat16 part = __float2bfloat16_rn(value);
        to[k * plane + (line * t.padded + pos) * t.states + n] = part;
        value -= __bfloat162float(part);
      }
    }
    const float norm = sqrtf(warp_sum(squares)) * kNormSlack;
    if (lane == 0) norms[at] = norm;
    if (lane == 0 && side == 1) t.C_norm[line * t.padded + pos] = norm;
  }
  __syncthreads();
  if (side == 0 && threadIdx.x < 32) {
    const float largest = warp_max(fmaxf(norms[lane], norms[lane + 32]));
    if (lane == 0) t.B_norm[line * (t.padded / kSsdTile) + blockIdx.x] = largest;
  }
}

__device__ __forceinline__ int64_t head_of_slot(const SsdMapTerms& t, int64_t slot) {
  const int64_t width = t.eights * kSsdEight, shared = t.in.heads / t.in.groups;
  const int64_t within = slot % width;
  return slot < t.in.groups * width && within < shared ? slot / width * shared + within : -1;
}

struct Weights {
  float log_decay[kSlots][kSsdTile + 1], dt[kSlots][kSsdTile + 1];  // then: weight, exponent
};

// A warp's slot: running sums of the tile in float64, the keys' weights at the tile's end.
__device__ __forceinline__ void weigh(const SsdMapTerms& t, Weights& s, int at, int64_t slot,
                                      int64_t b, int64_t tile) {
  const int lane = threadIdx.x % 32;
  const int64_t slots = t.in.groups * t.eights * kSsdEight, tiles = t.padded / kSsdTile;
  const double first = s.log_decay[at][2 * lane], second = s.log_decay[at][2 * lane + 1];
  double sum = first + second;
  for (int step = 1; step < 32; step *= 2) {
    const double more = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += more;
  }
  constexpr double kLog2EDouble = 1.4426950408889634074;
  const double total = __shfl_sync(0xffffffffu, sum, 31) * kLog2EDouble;
  const double inside[2] = {(sum - second) * kLog2EDouble, sum * kLog2EDouble};
  float weight[2], largest = 0, all = 0;
  for (int k = 0; k < 2; ++k) {
    const int64_t pos = tile * kSsdTile + 2 * lane + k;
    weight[k] = fabsf(s.dt[at][2 * lane + k]) * exp2_fast(static_cast<float>(total - inside[k]));
    largest = fmaxf(largest, weight[k]), all += weight[k];
    const float high = static_cast<float>(inside[k]);
    t.inside[(b * t.padded + pos) * slots + slot] = {
        high, static_cast<float>(inside[k] - static_cast<double>(high))};
  }
  const int exponent = half_scale_exponent(warp_max(largest));
  all = warp_sum(all);
  if (lane == 0) {
    const int64_t to = (b * tiles + tile) * slots + slot;
    t.exponent[to] = exponent;
    t.tile_sum[to] = all;
    t.before[(b * (tiles + 1) + tile + 1) * slots + slot] = total;
  }
  const float scale = power_of_two(exponent);
  __syncwarp();
  for (int k = 0; k < 2; ++k) {
    s.log_decay[at][2 * lane + k] = weight[k];
    s.dt[at][2 * lane + k] = weight[k] * scale;
  }
}

// w log2(w / 2^14), not above 0: with w it makes sums of w log2 w of halves.
__device__ __forceinline__ float scaled_log(float w) {
  return w * (log2_fast(w + kLeast) - kHalfTopExponent);
}

__global__ void __launch_bounds__(kThreads) key_weights(SsdMapTerms t) {
  __shared__ Weights s;
  const SsdMapInputs& in = t.in;
  const int64_t tile = blockIdx.x, b = blockIdx.z, slot0 = int64_t{blockIdx.y} * kSlots;
  const int64_t slots = in.groups * t.eights * kSsdEight, tiles = t.padded / kSsdTile;
  for (int at = threadIdx.x; at < kSsdTile * kSlots; at += kThreads) {
    const int64_t pos = tile * kSsdTile + at / kSlots, head = head_of_slot(t, slot0 + at % kSlots);
    float decay = 0, dt = 0;
    if (head >= 0 && pos < in.pos) {
      const int64_t* d = in.log_decay_strides;
      decay = load_any(in.log_decay, b * d[0] + pos * d[1] + head * d[2], in.log_decay_dtype);
      decay = decay < t.floor ? t.floor : decay;
      const int64_t* e = in.dt_strides;
      dt = in.dt == nullptr ? 1.0f
                            : load_any(in.dt, b * e[0] + pos * e[1] + head * e[2], in.dt_dtype);
    }
    s.log_decay[at % kSlots][at / kSlots] = decay, s.dt[at % kSlots][at / kSlots] = dt;
  }
  __syncthreads();
  for (int at = threadIdx.x / 32; at < kSlots && slot0 + at < slots; at += kThreads / 32) {
    weigh(t, s, at, slot0 + at, b, tile);
  }
  __syncthreads();
  for (int at = threadIdx.x; at < kSsdTile * kSlots; at += kThreads) {
    const int64_t pos = tile * kSsdTile + at / kSlots, slot = slot0 + at % kSlots;
    if (slot < slots) {
      t.weight[(b * t.padded + pos) * slots + slot] = s.log_decay[at % kSlots][at / kSlots];
    }
  }
  auto* fragments = static_cast<uint4*>(t.fragments);
  for (int at = threadIdx.x; at < kSlots / 8 * 4 * 32; at += kThreads) {
    const int lane = at % 32, step = at / 32 % 4, eight = at / 128;
    if (slot0 + eight * 8 >= slots) break;
    const float* w = &s.dt[eight * 8 + lane / 4][step * 16 + lane % 4 * 2];
    const HalfPair low = split_halves(w[0], w[1]), high = split_halves(w[8], w[9]);
    const HalfPair low_log = split_halves(scaled_log(w[0]), scaled_log(w[1]));
    const HalfPair high_log = split_halves(scaled_log(w[8]), scaled_log(w[9]));
    const int64_t eights = slots / 8, to = ((b * tiles + tile) * eights + slot0 / 8 + eight);
    uint4* out = fragments + ((to * 4 + step) * 32 + lane) * 2;
    out[0] = make_uint4(low.high, high.high, low.low, high.low);
    out[1] = make_uint4(low_log.high, high_log.high, low_log.low, high_log.low);
  }
}

// Sums over all tiles before, a thread a slot; and the largest |B| so far, a warp a group.
__global__ void __launch_bounds__(kThreads) sums_before(SsdMapTerms t) {
  const int64_t slots = t.in.groups * t.eights * kSsdEight, tiles = t.padded / kSsdTile;
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < t.in.batch * slots) {
    const int64_t b = at / slots, slot = at % slots;
    double* before = t.before + b * (tiles + 1) * slots + slot;
    const float* tile_sum = t.tile_sum + b * tiles * slots + slot;
    float* reach = t.reach + b * tiles * slots + slot;
    double sum = 0;
    float reached = 0;
    before[0] = 0;
    constexpr int kAhead = 8;
    for (int64_t first = 0; first < tiles; first += kAhead) {
      double decay[kAhead];
      float own[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const bool inside = first + k < tiles;
        decay[k] = inside ? before[(first + k + 1) * slots] : 0.0;
        own[k] = inside ? tile_sum[(first + k) * slots] : 0.0f;
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (first + k >= tiles) break;
        sum += decay[k];
        reached = fmaf(reached, exp2_fast(static_cast<float>(decay[k])), own[k]);
        before[(first + k + 1) * slots] = sum;
        reach[(first + k) * slots] = reached;
      }
    }
  }
  const int64_t line = at / 32;
  const int lane = threadIdx.x % 32;
  if (line < t.in.batch * t.in.groups) {
    float carried = 0;
    for (int64_t first = 0; first < tiles; first += 32) {
      float most = first + lane < tiles ? t.B_norm[line * tiles + first + lane] : 0.0f;
      for (int step = 1; step < 32; step *= 2) {
        const float more = __shfl_up_sync(0xffffffffu, most, step);
        if (lane >= step) most = fmaxf(most, more);
      }
      most = fmaxf(most, carried);
      if (first + lane < tiles) t.B_reach[line * tiles + first + lane] = most;
      carried = __shfl_sync(0xffffffffu, most, 31);
    }
  }
}

}  // namespace

cudaError_t launch_ssd_map_terms(const SsdMapTerms& t, cudaStream_t stream) {
  const auto tiles = static_cast<unsigned>(t.padded / kSsdTile);
  const auto batch = static_cast<unsigned>(t.in.batch), groups = static_cast<unsigned>(t.in.groups);
  const int64_t slots = t.in.groups * t.eights * kSsdEight;
  pack<<<dim3(tiles, groups, 2 * batch), kThreads, 0, stream>>>(t);
  const auto blocks = static_cast<unsigned>((slots + kSlots - 1) / kSlots);
  key_weights<<<dim3(tiles, blocks, batch), kThreads, 0, stream>>>(t);
  const int64_t threads = t.in.batch * (slots > 32 * t.in.groups ? slots : 32 * t.in.groups);
  sums_before<<<static_cast<unsigned>((threads + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      t);
  return cudaGetLastError();
}

}  // namespace headlens
