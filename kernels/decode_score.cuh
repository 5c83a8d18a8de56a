// headlens/kernels: scores of one query over cached keys: eight dimensions a lane, lanes a key.
#pragma once

#include <cstdint>

#include "common/vector.cuh"
#include "decode_unpack.cuh"

namespace headlens {

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kUnseen = -1e30f;  // instead of -inf, whose differences are NaN

/// Lanes that share a key: the power of two that has 8 dimensions for each.
__device__ __forceinline__ int lanes_of(int d) {
  int lanes = 1;
  while (lanes * 8 < d) lanes *= 2;
  return lanes;
}

/// The sum over a group of `lanes` lanes, in each of them.
__device__ __forceinline__ float group_sum(float x, int lanes) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    if (offset < lanes) x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  return x;
}

__device__ __forceinline__ float finish_score(float raw, float scale, float softcap) {
  const float score = raw * scale;
  return softcap > 0 ? softcap * tanhf(score / softcap) : score;
}

/// The first key that the query at `position` sees.
__device__ __forceinline__ int64_t first_seen(int64_t position, int64_t padding, int window) {
  const int64_t reach = window > 0 ? position + 1 - window : 0;
  return reach > padding ? reach : padding;
}

/// Eight elements of a cached vector, packed until they are used: registers are what is short.
template <typename T>
struct Eight {
  static constexpr int kPacks = sizeof(T) == 4 ? 2 : 1;
  uint4 packs[kPacks];

  __device__ void load(const T* from) {
    for (int i = 0; i < kPacks; ++i) packs[i] = reinterpret_cast<const uint4*>(from)[i];
  }
  __device__ void clear() {
    for (int i = 0; i < kPacks; ++i) packs[i] = {0, 0, 0, 0};
  }
  __device__ void set(const float* from) {
    alignas(16) T values[8];
    for (int n = 0; n < 8; ++n) values[n] = from_float<T>(from[n]);
    for (int i = 0; i < kPacks; ++i) packs[i] = reinterpret_cast<const uint4*>(values)[i];
  }
  /// Elements 2 i and 2 i + 1.
  __device__ float2 pair(int i) const {
    const uint4& pack = packs[i * kPacks / 4];
    if constexpr (sizeof(T) == 4) {
      return i % 2 == 0 ? make_float2(__uint_as_float(pack.x), __uint_as_float(pack.y))
                        : make_float2(__uint_as_float(pack.z), __uint_as_float(pack.w));
    } else {
      return unpack(i == 0 ? pack.x : i == 1 ? pack.y : i == 2 ? pack.z : pack.w, T());
    }
  }
  __device__ float dot(const float* q) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two = pair(i);
      sum = fmaf(two.x, q[2 * i], fmaf(two.y, q[2 * i + 1], sum));
    }
    return sum;
  }
  __device__ void add_to(float* z, float weight) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 two = pair(i);
      z[2 * i] = fmaf(two.x, weight, z[2 * i]);
      z[2 * i + 1] = fmaf(two.y, weight, z[2 * i + 1]);
    }
  }
};

}  // namespace headlens
