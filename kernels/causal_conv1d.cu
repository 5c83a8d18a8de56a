// headlens/kernels: the causal convolution's forward.
#include "causal_conv1d.h"

#include "causal_conv1d.cuh"

namespace headlens {
namespace {

template <typename T, int kWidth, int N>
__global__ void __launch_bounds__(kConvThreads, 3)
    conv_forward_kernel(const ConvForwardParams p, int64_t steps) {
  const ConvInputs& in = p.in;
  const ConvPlace<N> at(in, steps);
  if (at.channel >= in.channels) return;
  float taps[kWidth][N], bias[N];
  load_taps<T, kWidth, N>(in, at.channel, taps, bias);
  float window[kWidth - 1 + kConvUnroll][N];
#pragma unroll
  for (int k = 0; k < kWidth - 1; ++k) {
    load_inputs<T, N>(in, at.batch, at.first - (kWidth - 1) + k, at.channel).unpack(window[k]);
  }
  // Where a row is past the end the last one is read again, and nothing is written.
  const T* x = static_cast<const T*>(in.x) + at.batch * in.x_batch_stride + at.channel;
  const auto row = [&](int64_t t) { return x + (t < at.end ? t : at.end - 1) * in.x_pos_stride; };
  Raw<T, N> next[kConvUnroll];
#pragma unroll
  for (int r = 0; r < kConvUnroll; ++r) next[r] = Raw<T, N>::load(row(at.first + r));
  T* y = static_cast<T*>(p.y);
  T* silu_out = static_cast<T*>(p.silu);
  int64_t offset = (at.batch * in.pos + at.first) * in.channels + at.channel;
#pragma unroll 1
  for (int64_t t = at.first; t < at.end; t += kConvUnroll) {
#pragma unroll
    for (int r = 0; r < kConvUnroll; ++r) next[r].unpack(window[kWidth - 1 + r]);
#pragma unroll
    for (int r = 0; r < kConvUnroll; ++r) next[r] = Raw<T, N>::load(row(t + kConvUnroll + r));
#pragma unroll
    for (int r = 0; r < kConvUnroll; ++r) {
      float pre[N];
#pragma unroll
      for (int n = 0; n < N; ++n) {
        pre[n] = bias[n];
#pragma unroll
        for (int k = 0; k < kWidth; ++k) {
          if (real_tap<kWidth>(k, in)) pre[n] = fmaf(taps[k][n], window[k + r][n], pre[n]);
        }
      }
      const bool inside = t + r < at.end;
      if (y != nullptr && inside) Raw<T, N>::pack(pre).store(y + offset);
      if (silu_out != nullptr) {
#pragma unroll
        for (int n = 0; n < N; ++n) pre[n] = silu_fast(pre[n]);
        if (inside) Raw<T, N>::pack(pre).store(silu_out + offset);
      }
      offset += in.channels;
    }
#pragma unroll
    for (int k = 0; k < kWidth - 1; ++k) {
#pragma unroll
      for (int n = 0; n < N; ++n) window[k][n] = window[k + kConvUnroll][n];
    }
  }
  if (at.end < in.pos || p.state == nullptr) return;
  // All of the old state before any of the new: both may be the same memory.
  Raw<T, N> last[kWidth - 1];
  const int count = static_cast<int>(in.width) - 1;
#pragma unroll
  for (int k = 0; k < kWidth - 1; ++k) {
    if (k < count) last[k] = load_inputs<T, N>(in, at.batch, in.pos - count + k, at.channel);
  }
#pragma unroll
  for (int k = 0; k < kWidth - 1; ++k) {
    if (k < count) {
      last[k].store(static_cast<T*>(p.state) + (at.batch * count + k) * in.channels + at.channel);
    }
  }
}

template <typename T, int kWidth, int N>
cudaError_t launch(const ConvForwardParams& p, cudaStream_t stream) {
  const int64_t columns = (p.in.channels + kConvThreads * N - 1) / (kConvThreads * N);
  constexpr int64_t kSlots = 132 * 5;  // what the registers leave room for on Hopper
  const int64_t steps = block_steps(p.in, columns, kSlots, /*least=*/8, /*most=*/128);
  const dim3 grid(static_cast<unsigned>(columns),
                  static_cast<unsigned>((p.in.pos + steps - 1) / steps),
                  static_cast<unsigned>(p.in.batch));
  conv_forward_kernel<T, kWidth, N><<<grid, kConvThreads, 0, stream>>>(p, steps);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_typed(const ConvForwardParams& p, cudaStream_t stream) {
  constexpr int kPack = 4;
  const ConvInputs& in = p.in;
  const auto aligned = [](const void* data) {
    return reinterpret_cast<uintptr_t>(data) % (kPack * sizeof(T)) == 0;
  };
  const bool wide = in.channels % kPack == 0 && in.x_batch_stride % kPack == 0 &&
                    in.x_pos_stride % kPack == 0 && aligned(in.x) && aligned(in.state) &&
                    aligned(p.y) && aligned(p.silu) && aligned(p.state);
  if (in.width == 4) {
    return wide ? launch<T, 4, kPack>(p, stream) : launch<T, 4, 1>(p, stream);
  }
  return wide ? launch<T, 8, kPack>(p, stream) : launch<T, 8, 1>(p, stream);
}

}  // namespace

cudaError_t launch_causal_conv1d(const ConvForwardParams& p, cudaStream_t stream) {
  const ConvInputs& in = p.in;
  if (in.batch == 0 || in.channels == 0 || in.pos == 0) return cudaSuccess;
  if (in.batch > 65535 || in.width < 1 || in.width > kMaxConvWidth) return cudaErrorInvalidValue;
  return dispatch_dtype(in.dtype, [&](auto t) { return launch_typed<decltype(t)>(p, stream); });
}

}  // namespace headlens
