// headlens/kernels: root-mean-square norms of rows, with the addition before them or a gate.
#include "norm.h"

#include "common/vector.cuh"

namespace headlens {
namespace {

constexpr int kThreads = 256;
constexpr size_t kMaxShared = 160 * 1024;  // a row in float32; every device since sm_80 has it

/// One block a row, which waits in shared memory as float32 between the sum and the division.
template <typename X, typename T, int N>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(RmsNormParams p) {
  extern __shared__ float row[];
  __shared__ float scratch[32];
  const int64_t index = blockIdx.x;
  const X* x = static_cast<const X*>(p.x) + index * p.x_stride;
  const T* addend = static_cast<const T*>(p.addend);
  X* sum = static_cast<X*>(p.sum) + index * p.width;
  float squares = 0;
  for (int64_t i = threadIdx.x * N; i < p.width; i += kThreads * N) {
    auto values = load_pack<X, N>(x + i);
    if (addend != nullptr) {
      const auto more = load_pack<T, N>(addend + index * p.addend_stride + i);
      for (int n = 0; n < N; ++n) {
        values.values[n] = from_float<X>(to_float(values.values[n]) + to_float(more.values[n]));
      }
      store_pack<X, N>(sum + i, values);
    }
    for (int n = 0; n < N; ++n) {
      const float value = to_float(values.values[n]);
      row[i + n] = value;
      squares += value * value;
    }
  }
  const float inverse = rsqrtf(block_sum(squares, scratch) / static_cast<float>(p.width) + p.eps);
  T* out = static_cast<T*>(p.out) + index * p.width;
  const T* weight = static_cast<const T*>(p.weight);
  for (int64_t i = threadIdx.x * N; i < p.width; i += kThreads * N) {  // this thread's own values
    const auto scale = load_pack<T, N>(weight + i);
    Pack<T, N> result;
    for (int n = 0; n < N; ++n) {
      const float normed = row[i + n] * inverse, w = to_float(scale.values[n]);
      result.values[n] = from_float<T>(p.plus_one ? normed * (1 + w) : rounded<T>(normed) * w);
    }
    store_pack<T, N>(out + i, result);
  }
}

/// One block a group of a row.
template <typename Y, typename T, int N>
__global__ void __launch_bounds__(kThreads) gated_norm_kernel(GatedNormParams p) {
  extern __shared__ float part[];
  __shared__ float scratch[32];
  const int64_t index = blockIdx.x / p.groups, width = p.width / p.groups,
                from = blockIdx.x % p.groups * width;
  const Y* y = static_cast<const Y*>(p.y) + index * p.y_stride + from;
  const T* gate = static_cast<const T*>(p.gate) + index * p.gate_stride + from;
  const T* weight = static_cast<const T*>(p.weight) + from;
  T* out = static_cast<T*>(p.out) + index * p.width + from;
  const bool normed = p.order != GateOrder::GateOnly, before = p.order != GateOrder::NormFirst;
  float squares = 0;
  for (int64_t i = threadIdx.x * N; i < width; i += kThreads * N) {
    const auto values = load_pack<Y, N>(y + i);
    const auto opening = load_pack<T, N>(gate + i);
    for (int n = 0; n < N; ++n) {
      const float value = to_float(values.values[n]);
      part[i + n] = before ? value * silu(to_float(opening.values[n])) : value;
      squares += part[i + n] * part[i + n];
    }
  }
  float inverse = 1;
  if (normed) inverse = rsqrtf(block_sum(squares, scratch) / static_cast<float>(width) + p.eps);
  for (int64_t i = threadIdx.x * N; i < width; i += kThreads * N) {
    Pack<T, N> scale, opening, result;
    if (normed) scale = load_pack<T, N>(weight + i);
    if (!before) opening = load_pack<T, N>(gate + i);
    for (int n = 0; n < N; ++n) {
      float value = part[i + n] * inverse;
      if (normed) value *= to_float(scale.values[n]);
      if (!before) value *= silu(to_float(opening.values[n]));
      result.values[n] = from_float<T>(value);
    }
    store_pack<T, N>(out + i, result);
  }
}

template <typename Params>
cudaError_t launch_rows(void (*kernel)(Params), const Params& params, int64_t blocks, int64_t width,
                        cudaStream_t stream) {
  const size_t shared = static_cast<size_t>(width) * sizeof(float);
  if (blocks == 0) return cudaSuccess;
  if (shared > kMaxShared) return cudaErrorInvalidValue;
  if (shared > 48 * 1024) {
    const cudaError_t status = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kMaxShared));
    if (status != cudaSuccess) return status;
  }
  kernel<<<static_cast<unsigned>(blocks), kThreads, shared, stream>>>(params);
  return cudaGetLastError();
}

bool divides(int64_t pack, std::initializer_list<int64_t> sizes) {
  for (const int64_t size : sizes) {
    if (size % pack != 0) return false;
  }
  return true;
}

bool aligned(std::initializer_list<const void*> pointers) {
  for (const void* pointer : pointers) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  }
  return true;
}

}  // namespace

cudaError_t launch_rms_norm(const RmsNormParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.out_dtype, [&](auto out) {
    using T = decltype(out);
    constexpr int kPack = sizeof(T) == 4 ? 4 : 8;
    const bool wide = divides(kPack, {p.width, p.x_stride, p.addend_stride}) &&
                      aligned({p.x, p.addend, p.weight, p.sum, p.out});
    if (p.x_dtype == p.out_dtype) {
      return launch_rows(wide ? rms_norm_kernel<T, T, kPack> : rms_norm_kernel<T, T, 1>, p, p.rows,
                         p.width, stream);
    }
    return launch_rows(wide ? rms_norm_kernel<float, T, 4> : rms_norm_kernel<float, T, 1>, p,
                       p.rows, p.width, stream);
  });
}

cudaError_t launch_gated_norm(const GatedNormParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.out_dtype, [&](auto out) {
    using T = decltype(out);
    constexpr int kPack = sizeof(T) == 4 ? 4 : 8;
    const bool wide = divides(kPack, {p.width / p.groups, p.y_stride, p.gate_stride}) &&
                      aligned({p.y, p.gate, p.weight, p.out});
    const int64_t blocks = p.rows * p.groups, width = p.width / p.groups;
    if (p.y_dtype == p.out_dtype) {
      return launch_rows(wide ? gated_norm_kernel<T, T, kPack> : gated_norm_kernel<T, T, 1>, p,
                         blocks, width, stream);
    }
    return launch_rows(wide ? gated_norm_kernel<float, T, 4> : gated_norm_kernel<float, T, 1>, p,
                       blocks, width, stream);
  });
}

}  // namespace headlens
