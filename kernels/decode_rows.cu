// headlens/kernels: the attention row of one position, for chosen heads, over a preallocated cache.
#include "common/vector.cuh"
#include "decode_attention.h"
#include "decode_score.cuh"

namespace headlens {
namespace {

constexpr int kThreads = 256;

/// One block a run of keys; in each of its groups of lanes a key at a time.
template <typename T>
__global__ void __launch_bounds__(kThreads) decode_rows_kernel(DecodeRowsParams p, int64_t span) {
  const int row = blockIdx.z, index = blockIdx.y, lanes = lanes_of(p.d);
  const int sub = threadIdx.x % lanes, group = threadIdx.x / lanes, groups = kThreads / lanes;
  const int head = static_cast<int>(p.chosen[index]), kv = head / (p.heads / p.kv_heads);
  const int64_t position = *p.position, padding = p.first != nullptr ? p.first[row] : 0;
  const int64_t low = first_seen(position, padding, p.window), dim = sub * 8;
  const bool active = dim < p.d;
  float q[8] = {};
  if (active) {
    Eight<T> values;
    values.load(static_cast<const T*>(p.q) + (static_cast<int64_t>(row) * p.heads + head) * p.d +
                dim);
    values.add_to(q, 1);
  }
  const float log_mass = p.log_mass[static_cast<int64_t>(row) * p.heads + head];
  float* rows = p.rows + (static_cast<int64_t>(row) * p.n + index) * p.max_position;
  const int64_t stride = static_cast<int64_t>(p.kv_heads) * p.d;
  const T* cache =
      static_cast<const T*>(p.k_cache) + row * p.max_position * stride + kv * p.d + dim;
  const int64_t from = blockIdx.x * span, to = min(from + span, p.max_position);
  for (int64_t base = from; base < to; base += groups) {
    const int64_t key = base + group;
    const bool seen = key < to && key >= low && key <= position;
    Eight<T> k;
    if (seen && active) {
      k.load(cache + key * stride);
    } else {
      k.clear();
    }
    const float raw = group_sum(k.dot(q), lanes);
    if (sub != 0 || key >= to) continue;
    rows[key] = seen ? exp2f((finish_score(raw, p.scale, p.softcap) - log_mass) * kLog2e) : 0;
  }
}

}  // namespace

cudaError_t launch_decode_rows(const DecodeRowsParams& p, cudaStream_t stream) {
  if (p.d % 8 != 0 || p.d > 256) return cudaErrorInvalidValue;
  if (p.n == 0) return cudaSuccess;
  constexpr int64_t kSpan = 256;
  const dim3 grid(static_cast<unsigned>((p.max_position + kSpan - 1) / kSpan),
                  static_cast<unsigned>(p.n), static_cast<unsigned>(p.batch));
  return dispatch_dtype(p.dtype, [&](auto t) {
    decode_rows_kernel<decltype(t)><<<grid, kThreads, 0, stream>>>(p, kSpan);
    return cudaGetLastError();
  });
}

}  // namespace headlens
