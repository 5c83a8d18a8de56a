// headlens/kernels: rotation of query and key heads by position.
#include "rotary.h"

#include "common/vector.cuh"

namespace headlens {
namespace {

constexpr int kThreads = 256;

/// A thread turns N pairs, or copies N dimensions past the rotated ones.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) rotary_kernel(RotaryParams p) {
  const int64_t per_head = (p.d_head - p.half) / N;  // packs: pairs first, then what is copied
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= p.batch * p.pos * p.heads * per_head) return;
  const int64_t pack = index % per_head, row = index / per_head;
  const int64_t head = row % p.heads, place = row / p.heads;
  const int64_t pos = place % p.pos, batch = place / p.pos;
  const T* x = static_cast<const T*>(p.x) + batch * p.x_batch + pos * p.x_pos + head * p.x_head;
  T* out = static_cast<T*>(p.out) + row * p.d_head;
  const int64_t from = pack * N;
  if (from >= p.half) {
    store_pack<T, N>(out + from + p.half, load_pack<T, N>(x + from + p.half));
    return;
  }
  const int64_t angle = batch * p.table_batch + pos * p.half + from;
  const auto first = load_pack<T, N>(x + from), second = load_pack<T, N>(x + from + p.half);
  Pack<T, N> turned, other;
  for (int n = 0; n < N; ++n) {
    const float a = to_float(first.values[n]), b = to_float(second.values[n]);
    const float cosine = p.cos[angle + n], sine = p.sin[angle + n];
    turned.values[n] = from_float<T>(a * cosine - b * sine);
    other.values[n] = from_float<T>(b * cosine + a * sine);
  }
  store_pack<T, N>(out + from, turned);
  store_pack<T, N>(out + from + p.half, other);
}

}  // namespace

cudaError_t launch_rotary(const RotaryParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kPack = sizeof(T) == 4 ? 4 : 8;
    bool wide = reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
    for (const int64_t size : {p.half, p.d_head, p.x_batch, p.x_pos, p.x_head}) {
      wide = wide && size % kPack == 0;
    }
    const int64_t threads = p.batch * p.pos * p.heads * (p.d_head - p.half) / (wide ? kPack : 1);
    if (threads == 0) return cudaSuccess;
    const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
    (wide ? rotary_kernel<T, kPack> : rotary_kernel<T, 1>)<<<blocks, kThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

}  // namespace headlens
