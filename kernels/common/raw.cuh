// headlens/kernels: vectors of elements kept as they came, to be taken apart only when used.
#pragma once

#include <type_traits>

#include "common/vector.cuh"

namespace headlens {

/// N elements in registers as whole words: a pack of 16-bit elements that waits for its use would
/// be spread over one register each.
template <typename T, int N>
struct Raw {
  static constexpr int kBytes = N * static_cast<int>(sizeof(T));
  static constexpr int kWords = (kBytes + 3) / 4;
  unsigned words[kWords];

  static __device__ __forceinline__ Raw zeros() {
    Raw raw;
#pragma unroll
    for (int i = 0; i < kWords; ++i) raw.words[i] = 0;
    return raw;
  }

  static __device__ __forceinline__ Raw load(const T* from) {
    Raw raw;
    if constexpr (kBytes == 16) {
      const uint4 w = *reinterpret_cast<const uint4*>(from);
      raw.words[0] = w.x, raw.words[1] = w.y, raw.words[2] = w.z, raw.words[3] = w.w;
    } else if constexpr (kBytes == 8) {
      const uint2 w = *reinterpret_cast<const uint2*>(from);
      raw.words[0] = w.x, raw.words[1] = w.y;
    } else if constexpr (kBytes == 4) {
      raw.words[0] = *reinterpret_cast<const unsigned*>(from);
    } else {
      static_assert(kBytes == 2, "1, 2, 4, 8 or 16 bytes");
      raw.words[0] = *reinterpret_cast<const unsigned short*>(from);
    }
    return raw;
  }

  /// The elements at `from`, of which the first `valid` exist; zeros for the others.
  static __device__ __forceinline__ Raw load_some(const T* from, int valid) {
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.values[i] = i < valid ? from[i] : from_float<T>(0.0f);
    return *reinterpret_cast<const Raw*>(&pack);
  }

  static __device__ __forceinline__ Raw pack(const float (&from)[N]) {
    Pack<T, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.values[i] = from_float<T>(from[i]);
    Raw raw = zeros();
    memcpy(raw.words, &pack, kBytes);
    return raw;
  }

  __device__ __forceinline__ void store(T* to) const {
    if constexpr (kBytes == 16) {
      *reinterpret_cast<uint4*>(to) = make_uint4(words[0], words[1], words[2], words[3]);
    } else if constexpr (kBytes == 8) {
      *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
    } else if constexpr (kBytes == 4) {
      *reinterpret_cast<unsigned*>(to) = words[0];
    } else {
      *reinterpret_cast<unsigned short*>(to) = static_cast<unsigned short>(words[0]);
    }
  }

  __device__ __forceinline__ void store_some(T* to, int valid) const {
    const auto pack = *reinterpret_cast<const Pack<T, N>*>(words);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < valid) to[i] = pack.values[i];
    }
  }

  __device__ __forceinline__ void unpack(float (&to)[N]) const {
    constexpr int kEach = N / kWords;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      if constexpr (std::is_same<T, __nv_bfloat16>::value) {  // one instruction each
        to[kEach * i] = __uint_as_float(words[i] << 16);
        if constexpr (kEach == 2) to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
        continue;
      }
      const auto some = *reinterpret_cast<const Pack<T, kEach>*>(&words[i]);
#pragma unroll
      for (int j = 0; j < kEach; ++j) to[kEach * i + j] = to_float(some.values[j]);
    }
  }
};

/// x sigmoid(x); the quotient to two units in its last place.
__device__ __forceinline__ float silu_fast(float x) {
  return __fdividef(x, 1.0f + __expf(-x));
}

}  // namespace headlens
