// headlens/kernels: an activation times the other half of a gated MLP.
#include "gated_activation.h"

#include "common/vector.cuh"

namespace headlens {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float apply(GateFunction function, float x) {
  switch (function) {
    case GateFunction::Silu:
      return silu(x);
    case GateFunction::Gelu:
      return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
    case GateFunction::GeluTanh:
      return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case GateFunction::Relu:
      return fmaxf(x, 0);
    case GateFunction::Relu2:
      return fmaxf(x, 0) * fmaxf(x, 0);
  }
  return x;
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) gated_activation_kernel(GatedActivationParams p) {
  const int64_t per_row = p.width / N;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= p.rows * per_row) return;
  const int64_t row = index / per_row, from = index % per_row * N;
  const auto gate = load_pack<T, N>(static_cast<const T*>(p.gate) + row * p.gate_stride + from);
  const auto up = load_pack<T, N>(static_cast<const T*>(p.up) + row * p.up_stride + from);
  Pack<T, N> out;
  for (int n = 0; n < N; ++n) {
    const float opened = rounded<T>(apply(p.function, to_float(gate.values[n])));
    out.values[n] = from_float<T>(opened * to_float(up.values[n]));
  }
  store_pack<T, N>(static_cast<T*>(p.out) + row * p.width + from, out);
}

}  // namespace

cudaError_t launch_gated_activation(const GatedActivationParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kPack = sizeof(T) == 4 ? 4 : 8;
    bool wide = reinterpret_cast<uintptr_t>(p.gate) % 16 == 0 &&
                reinterpret_cast<uintptr_t>(p.up) % 16 == 0;
    for (const int64_t size : {p.width, p.gate_stride, p.up_stride}) {
      wide = wide && size % kPack == 0;
    }
    const int64_t threads = p.rows * p.width / (wide ? kPack : 1);
    if (threads == 0) return cudaSuccess;
    const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
    (wide ? gated_activation_kernel<T, kPack>
          : gated_activation_kernel<T, 1>)<<<blocks, kThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

}  // namespace headlens
