// headlens/kernels: numbers that map kernels need: fast powers and logs, halves that keep 22 bits.
#pragma once

#include "common/mma.cuh"
#include "common/vector.cuh"

namespace headlens {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
// Added before a logarithm: 0 ln 0 is then 0, and no entry above it is changed. A normal float.
constexpr float kLeast = 1e-37f;

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// An element of an array whose type is known at run time only; for arrays read once.
__device__ __forceinline__ float load_any(const void* from, int64_t at, KernelDtype dtype) {
  if (dtype == KernelDtype::BFloat16) return to_float(static_cast<const __nv_bfloat16*>(from)[at]);
  if (dtype == KernelDtype::Float16) return to_float(static_cast<const __half*>(from)[at]);
  return static_cast<const float*>(from)[at];
}

/// A pair of floats as pairs of halves, low + high = 22 bits of each. Products of such pairs take
/// three matrix instructions (the two lows are left out: 2^-22 of the product). Halves reach down
/// to 2^-24 only, so vectors are first scaled to a largest element of kHalfTop: what is lost is
/// then at most 2^-39 of the largest element.
constexpr int kHalfTopExponent = 14;  // scaled values lie below 2^14
struct HalfPair {
  uint32_t high, low;
};
__device__ __forceinline__ HalfPair split_halves(float a, float b) {
  HalfPair pair;
  pair.high = pack_pair<__half>(a, b);
  const float2 rounded = unpack_pair<__half>(pair.high);
  pair.low = pack_pair<__half>(a - rounded.x, b - rounded.y);
  return pair;
}

/// The power of two that brings `largest` (not negative) into [2^13, 2^14), as its exponent.
/// Exponents stay within +-100, so that the power and its inverse are normal floats.
__device__ __forceinline__ int half_scale_exponent(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;
  return min(100, max(-100, kHalfTopExponent - 1 - exponent));
}
__device__ __forceinline__ float power_of_two(int exponent) {
  return __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23);
}

/// d += A B with both split.
__device__ __forceinline__ void mma_split(float (&d)[4], const uint32_t (&a_high)[4],
                                          const uint32_t (&a_low)[4], const uint4& b) {
  mma<__half>(d, a_low, b.x, b.y);
  mma<__half>(d, a_high, b.z, b.w);
  mma<__half>(d, a_high, b.x, b.y);
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

}  // namespace headlens
