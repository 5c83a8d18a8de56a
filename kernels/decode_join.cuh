// headlens/kernels: one softmax from those of lanes, warps and blocks that had some keys each.
#pragma once

#include "common/vector.cuh"
#include "decode_share.cuh"

namespace headlens {

/// Floats of one head's part: z, the largest score, the mass, and up to 16 bytes.
__host__ __device__ constexpr int partial_width(int d) {
  return d + 4;
}

/// The softmax so far of one query head: the largest score, sum of 2^(s - largest), and sum of
/// 2^(s - largest) v.
struct Running {
  float most = kUnseen, mass = 0, z[8] = {};

  __device__ void rescale(float now) {
    const float factor = exp2f(most - now);
    mass *= factor;
    for (float& value : z) value *= factor;
    most = now;
  }
  /// Joins what the lane `offset` away has.
  __device__ void join(int offset) {
    const float other = __shfl_xor_sync(0xffffffffu, most, offset);
    rescale(fmaxf(most, other));
    mass += __shfl_xor_sync(0xffffffffu, mass, offset);
    for (float& value : z) value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
};

/// The block's softmax from its warps' into `out`: for each head z [d], the largest score, the
/// mass.
__device__ __forceinline__ void join_warps(const DecodeAttentionParams& p, const Share& s,
                                           Running (&running)[kGroup], int lanes,
                                           float (*z)[kGroup][kMaxHead], float* out) {
  __shared__ float most[kWarps][kGroup], mass[kWarps][kGroup];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < kGroup; ++h) {
    for (int offset = lanes; offset < 32; offset *= 2) running[h].join(offset);
    if (lane == 0) most[warp][h] = running[h].most, mass[warp][h] = running[h].mass;
    if (lane >= lanes || lane * 8 >= p.d) continue;
    for (int n = 0; n < 8; ++n) z[warp][h][lane * 8 + n] = running[h].z[n];
  }
  __syncthreads();
  for (int h = warp; h < s.count; h += kWarps) {
    float top = kUnseen, sum = 0, factors[kWarps];
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, most[w][h]);
    for (int w = 0; w < kWarps; ++w) sum += mass[w][h] * (factors[w] = exp2f(most[w][h] - top));
    float* to = out + h * partial_width(p.d);
    for (int i = lane; i < p.d; i += 32) {
      float value = 0;
      for (int w = 0; w < kWarps; ++w) value += z[w][h][i] * factors[w];
      to[i] = value;
    }
    if (lane == 0) to[p.d] = top, to[p.d + 1] = sum;
  }
}

/// Eight splits' parts of four dimensions, on their way.
struct Parts {
  float4 values[8];

  __device__ void load(const float* from, int64_t step, int first, int splits) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float* at = from + (first + i) * step;
      values[i] = first + i < splits ? __ldcg(reinterpret_cast<const float4*>(at)) : float4{};
    }
  }
  __device__ void add_to(float4& sum, const float* factors) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum.x = fmaf(values[i].x, factors[i], sum.x), sum.y = fmaf(values[i].y, factors[i], sum.y);
      sum.z = fmaf(values[i].z, factors[i], sum.z), sum.w = fmaf(values[i].w, factors[i], sum.w);
    }
  }
};

/// What each split's part of a head counts for, into `factors` (0 past the last): returns the
/// logsumexp in bits. A warp's work.
__device__ __forceinline__ float weigh_splits(const float* from, int64_t step, int splits, int d,
                                              float* factors) {
  const int lane = threadIdx.x % 32;
  float most[kMaxSplits / 32], mass[kMaxSplits / 32], top = kUnseen, sum = 0;
#pragma unroll
  for (int i = 0; i < kMaxSplits / 32; ++i) {
    const int split = i * 32 + lane;
    most[i] = split < splits ? __ldcg(from + split * step + d) : kUnseen;
    mass[i] = split < splits ? __ldcg(from + split * step + d + 1) : 0;
    top = fmaxf(top, most[i]);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
  }
#pragma unroll
  for (int i = 0; i < kMaxSplits / 32; ++i) sum += mass[i] * exp2f(most[i] - top);
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < kMaxSplits / 32; ++i) {
    factors[i * 32 + lane] = i * 32 + lane < splits ? exp2f(most[i] - top) / sum : 0;
  }
  __syncwarp();
  return top + log2f(sum);
}

/// z of the block's heads from all splits, a warp a head, by the block that was last to finish.
template <typename T>
__device__ void join_splits(const DecodeAttentionParams& p, const Share& s, const float* partial) {
  __shared__ float factors[kGroup][kMaxSplits];
  const int h = threadIdx.x / 32, lane = threadIdx.x % 32, width = partial_width(p.d);
  if (h >= s.count) return;
  const float* from = partial + h * width;
  const int64_t step = static_cast<int64_t>(kGroup) * width;
  Parts parts;
  parts.load(from + min(lane * 4, p.d - 4), step, 0, s.splits);
  const float log_mass = weigh_splits(from, step, s.splits, p.d, factors[h]);
  const int64_t head = static_cast<int64_t>(s.row) * p.heads + s.first_head + h;
  T* z = static_cast<T*>(p.z) + head * p.d;
  for (int d = lane * 4; d < p.d; d += 128) {
    float4 sum = {0, 0, 0, 0};
    for (int i = 0; i < s.splits; i += 8) {
      if (i > 0 || d >= 128) parts.load(from + d, step, i, s.splits);
      parts.add_to(sum, factors[h] + i);
    }
    z[d] = from_float<T>(sum.x), z[d + 1] = from_float<T>(sum.y);
    z[d + 2] = from_float<T>(sum.z), z[d + 3] = from_float<T>(sum.w);
  }
  if (p.log_mass != nullptr && lane == 0) p.log_mass[head] = log_mass / kLog2e;
}

}  // namespace headlens
