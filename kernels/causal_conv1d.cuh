// headlens/kernels: what the causal convolution's forward and backward share.
#pragma once

#include "causal_conv1d.h"
#include "common/raw.cuh"

namespace headlens {

constexpr int kConvThreads = 128;
constexpr int kConvUnroll = 4;  // rows in flight a thread, twice

/// Where a thread works: N channels from `channel`, positions first .. end - 1 of one sequence.
template <int N>
struct ConvPlace {
  int64_t channel, first, end, batch;
  __device__ ConvPlace(const ConvInputs& in, int64_t steps)
      : channel((int64_t{blockIdx.x} * kConvThreads + threadIdx.x) * N),
        first(int64_t{blockIdx.y} * steps),
        end(first + steps < in.pos ? first + steps : in.pos),
        batch(blockIdx.z) {}
};

/// Positions of a block, a multiple of what a thread has in flight: with which the blocks, `slots`
/// of which run at once, end soonest. Each takes kStart positions' time more: for what it reads of
/// the block before it, and until its first inputs are there.
inline int64_t block_steps(const ConvInputs& in, int64_t columns, int64_t slots, int64_t least,
                           int64_t most) {
  constexpr int64_t kStart = 12;
  int64_t best = least, soonest = 0;
  for (int64_t steps = least; steps <= most; steps += kConvUnroll) {
    const int64_t blocks = columns * in.batch * ((in.pos + steps - 1) / steps);
    const int64_t end = (blocks + slots - 1) / slots * (steps + kStart);
    if (soonest == 0 || end < soonest) best = steps, soonest = end;
  }
  return best;
}

/// `count` elements of one dtype as floats; in 16-byte vectors where `wide`.
template <typename W, int kCount>
__device__ __forceinline__ void load_floats(const W* from, bool wide, float (&to)[kCount]) {
  constexpr int kPack = kCount * sizeof(W) < 16 ? kCount : 16 / sizeof(W);
  if (!wide || kCount % kPack != 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = to_float(from[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; i += kPack) {
    const auto pack = load_pack<W, kPack>(from + i);
#pragma unroll
    for (int j = 0; j < kPack; ++j) to[i + j] = to_float(pack.values[j]);
  }
}

/// Taps as floats, the last `width` of kWidth; those before are no taps.
template <typename T, int kWidth, int N>
__device__ __forceinline__ void load_taps(const ConvInputs& in, int64_t channel,
                                          float (&taps)[kWidth][N], float (&bias)[N]) {
  const int skip = kWidth - static_cast<int>(in.width);
  const auto read = [&](auto* weight, auto* biases) {
    const bool wide = N > 1 && reinterpret_cast<uintptr_t>(weight) % 16 == 0;
    if (kWidth == 4) {
      float all[N * kWidth];
      load_floats(weight + channel * kWidth, wide, all);
#pragma unroll
      for (int i = 0; i < N * kWidth; ++i) taps[i % kWidth][i / kWidth] = all[i];
    } else {
#pragma unroll
      for (int i = 0; i < N * kWidth; ++i) {
        const int k = i % kWidth, n = i / kWidth;
        taps[k][n] = k >= skip ? to_float(weight[(channel + n) * in.width + k - skip]) : 0;
      }
    }
#pragma unroll
    for (int n = 0; n < N; ++n) bias[n] = 0;
    if (biases != nullptr) {
      load_floats(biases + channel, N > 1 && reinterpret_cast<uintptr_t>(biases) % 16 == 0, bias);
    }
  };
  if (in.weight_dtype == KernelDtype::Float32) {
    read(static_cast<const float*>(in.weight), static_cast<const float*>(in.bias));
  } else {
    read(static_cast<const T*>(in.weight), static_cast<const T*>(in.bias));
  }
}

/// The inputs at position t, which may lie before the first (the state) or past the last (zeros).
template <typename T, int N>
__device__ __forceinline__ Raw<T, N> load_inputs(const ConvInputs& in, int64_t batch, int64_t t,
                                                 int64_t channel) {
  if (t >= 0 && t < in.pos) {
    return Raw<T, N>::load(static_cast<const T*>(in.x) + batch * in.x_batch_stride +
                           t * in.x_pos_stride + channel);
  }
  const int64_t row = t + in.width - 1;
  if (t < 0 && row >= 0 && in.state != nullptr) {
    return Raw<T, N>::load(static_cast<const T*>(in.state) +
                           (batch * (in.width - 1) + row) * in.channels + channel);
  }
  return Raw<T, N>::zeros();
}

/// kWidth for the width: 4 means exactly that; 8 serves all, and asks which taps are real.
template <int kWidth>
__device__ __forceinline__ bool real_tap(int k, const ConvInputs& in) {
  return kWidth == 4 || k >= kWidth - static_cast<int>(in.width);
}

}  // namespace headlens
