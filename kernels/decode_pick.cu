// headlens/kernels: the first and the last kernel of a decoding step: embedding, and the likeliest
// token.
#include "common/dependent_launch.cuh"
#include "common/vector.cuh"
#include "decode_pick.h"

namespace headlens {
namespace {

constexpr int kThreads = 1024;

/// The largest so far and where it is; the first where several are equal. NaN counts as largest, as
/// in LibTorch's argmax.
struct Best {
  float value = -INFINITY;
  int64_t index = INT64_MAX;

  __device__ void see(float other, int64_t at) {
    const bool mine_nan = value != value, other_nan = other != other;
    const bool larger = mine_nan ? false : other_nan || other > value;
    const bool equal = mine_nan ? other_nan : other == value;
    if (larger || (equal && at < index)) value = other, index = at;
  }
};

__device__ Best warp_best(Best best) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const float value = __shfl_xor_sync(0xffffffffu, best.value, offset);
    const int64_t index = __shfl_xor_sync(0xffffffffu, best.index, offset);
    best.see(value, index);
  }
  return best;
}

/// One block a row: a row of 128k logits comes from the cache in a few microseconds.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    decode_pick_kernel(const __grid_constant__ DecodePickParams p) {
  __shared__ Best bests[32];
  wait_for_previous_kernel();
  allow_next_kernel();
  const T* logits = static_cast<const T*>(p.logits) + blockIdx.x * p.vocab;
  Best best;
#pragma unroll 4
  for (int64_t i = threadIdx.x * N; i < p.vocab; i += kThreads * N) {
    const auto values = load_pack<T, N>(logits + i);
    for (int n = 0; n < N; ++n) best.see(to_float(values.values[n]), i + n);
  }
  best = warp_best(best);
  if (threadIdx.x % 32 == 0) bests[threadIdx.x / 32] = best;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  best = warp_best(bests[threadIdx.x]);
  if (threadIdx.x != 0) return;
  const int64_t position = *p.position;
  p.ids[blockIdx.x] = best.index;
  p.chosen[blockIdx.x * p.chosen_stride + position + 1] = best.index;
  __threadfence();
  if (atomicAdd(p.tickets, 1) != p.batch - 1) return;
  *p.tickets = 0;  // the last row: all have read the position
  *p.position = position + 1;
}

template <typename T, int N>
__global__ void __launch_bounds__(256) decode_embed_kernel(DecodeEmbedParams p) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * N;
  wait_for_previous_kernel();
  allow_next_kernel();
  if (i >= p.width) return;
  auto values = load_pack<T, N>(static_cast<const T*>(p.table) + p.ids[blockIdx.y] * p.width + i);
  if (p.scale != 1) {
    for (int n = 0; n < N; ++n)
      values.values[n] = from_float<T>(to_float(values.values[n]) * p.scale);
  }
  store_pack<T, N>(static_cast<T*>(p.out) + blockIdx.y * p.width + i, values);
}

}  // namespace

cudaError_t launch_decode_pick(const DecodePickParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    constexpr int kPack = 16 / sizeof(T);
    const bool wide = p.vocab % kPack == 0 && reinterpret_cast<uintptr_t>(p.logits) % 16 == 0;
    return launch_dependent(wide ? decode_pick_kernel<T, kPack> : decode_pick_kernel<T, 1>, p,
                            dim3(static_cast<unsigned>(p.batch)), kThreads, 0, stream);
  });
}

cudaError_t launch_decode_embed(const DecodeEmbedParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    constexpr int kPack = 16 / sizeof(T);
    if (p.width % kPack != 0) return cudaErrorInvalidValue;
    const int64_t blocks = (p.width / kPack + 255) / 256;
    return launch_dependent(decode_embed_kernel<T, kPack>, p,
                            dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(p.batch)),
                            256, 0, stream);
  });
}

}  // namespace headlens
