// headlens/kernels: sixteen bytes of elements as they lie in registers.
#pragma once

#include <cstdint>

#include "common/vector.cuh"

namespace headlens {

/// Two packed elements as floats.
__device__ __forceinline__ float2 unpack(uint32_t pair, __nv_bfloat16) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}
__device__ __forceinline__ float2 unpack(uint32_t pair, __half) {
  return __half22float2(*reinterpret_cast<const __half2*>(&pair));
}

/// sum over 16 bytes of w x
template <typename T>
__device__ __forceinline__ float dot16(const uint4& w, const uint4& x, float sum) {
  const uint32_t a[4] = {w.x, w.y, w.z, w.w}, b[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      sum = fmaf(__uint_as_float(a[i]), __uint_as_float(b[i]), sum);
    } else {
      const float2 u = unpack(a[i], T()), v = unpack(b[i], T());
      sum = fmaf(u.x, v.x, fmaf(u.y, v.y, sum));
    }
  }
  return sum;
}

}  // namespace headlens
