// headlens/kernels: the causal convolution's backward.
#include "causal_conv1d.cuh"

namespace headlens {
namespace {

/// Known before it is known whether channels go in vectors, for the sums that the blocks leave.
int64_t backward_steps(const ConvInputs& in) {
  constexpr int64_t kSlots = 132 * 4, kPack = 4, kColumn = kConvThreads * kPack;
  return block_steps(in, (in.channels + kColumn - 1) / kColumn, kSlots, /*least=*/16,
                     /*most=*/256);
}

/// What comes back to one position's pre: of y, and of silu through its slope at `pre`.
template <typename T, int N>
struct ConvGrads {
  Raw<T, N> x, y, silu;

  __device__ __forceinline__ void load(const ConvBackwardParams& p, const ConvPlace<N>& at,
                                       int64_t t) {
    x = load_inputs<T, N>(p.in, at.batch, t, at.channel);
    const bool inside = t < p.in.pos;
    const int64_t offset = (at.batch * p.in.pos + t) * p.in.channels + at.channel;
    y = silu = Raw<T, N>::zeros();
    if (inside && p.grad_y != nullptr) y = y.load(static_cast<const T*>(p.grad_y) + offset);
    if (inside && p.grad_silu != nullptr) {
      silu = silu.load(static_cast<const T*>(p.grad_silu) + offset);
    }
  }

  __device__ __forceinline__ void of_pre(bool has_silu, const float (&pre)[N],
                                         float (&to)[N]) const {
    y.unpack(to);
    if (!has_silu) return;
    float grad[N];
    silu.unpack(grad);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float s = __fdividef(1.0f, 1.0f + __expf(-pre[n]));
      to[n] = fmaf(grad[n] * s, fmaf(pre[n], 1 - s, 1.0f), to[n]);
    }
  }
};

/// Sums of one thread's channels; `window` holds the inputs that end at a position, `grads` the
/// gradients of pre that end there.
template <int kWidth, int N>
struct ConvSums {
  float taps[kWidth][N], bias[N], window[kWidth][N], grads[kWidth][N];
  float grad_taps[kWidth][N], grad_bias[N];

  __device__ __forceinline__ void shift() {
#pragma unroll
    for (int k = 0; k + 1 < kWidth; ++k) {
#pragma unroll
      for (int n = 0; n < N; ++n) window[k][n] = window[k + 1][n], grads[k][n] = grads[k + 1][n];
    }
  }
  __device__ __forceinline__ void pre(const ConvInputs& in, float (&to)[N]) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      to[n] = bias[n];
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        if (real_tap<kWidth>(k, in)) to[n] = fmaf(taps[k][n], window[k][n], to[n]);
      }
    }
  }
  __device__ __forceinline__ void add(const ConvInputs& in) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const float grad = grads[kWidth - 1][n];
      grad_bias[n] += grad;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        if (real_tap<kWidth>(k, in)) grad_taps[k][n] = fmaf(grad, window[k][n], grad_taps[k][n]);
      }
    }
  }
  /// Of the first input in the window: pre at position t - j reads it through tap j.
  __device__ __forceinline__ void of_input(float (&to)[N]) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      to[n] = 0;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        to[n] = fmaf(taps[kWidth - 1 - k][n], grads[k][n], to[n]);
      }
    }
  }
};

/// Positions first .. end - 1: their taps' gradients, and those of the inputs at these positions,
/// which kWidth - 1 positions more read. The first block sees to the state before position 0 too.
template <typename T, int kWidth, int N>
__global__ void __launch_bounds__(kConvThreads, sizeof(T) == 2 ? 4 : 2)
    conv_backward_kernel(const ConvBackwardParams p, int64_t steps) {
  const ConvInputs& in = p.in;
  const ConvPlace<N> at(in, steps);
  if (at.channel >= in.channels) return;
  const int64_t count = in.width - 1;
  ConvSums<kWidth, N> sums{};
  load_taps<T, kWidth, N>(in, at.channel, sums.taps, sums.bias);
#pragma unroll
  for (int k = 1; k < kWidth; ++k) {
    load_inputs<T, N>(in, at.batch, at.first - kWidth + k, at.channel).unpack(sums.window[k]);
  }
  // The gradient of input s, if it is this block's.
  const auto write = [&](int64_t s, float(&grad)[N]) {
    if (s >= at.end || s < (at.first > 0 ? at.first : -count)) return;
    const int64_t kept = s - (in.pos - count);  // its place in the state that was handed out
    if (p.grad_state != nullptr && kept >= 0) {
      float more[N];
      Raw<T, N>::load(static_cast<const T*>(p.grad_state) +
                      (at.batch * count + kept) * in.channels + at.channel)
          .unpack(more);
#pragma unroll
      for (int n = 0; n < N; ++n) grad[n] += more[n];
    }
    const auto packed = Raw<T, N>::pack(grad);
    if (s >= 0) {
      packed.store(static_cast<T*>(p.grad_x) + (at.batch * in.pos + s) * in.channels + at.channel);
    } else if (p.grad_before != nullptr) {
      packed.store(static_cast<T*>(p.grad_before) + (at.batch * count + s + count) * in.channels +
                   at.channel);
    }
  };
  const int64_t last = at.end + kWidth - 1;
  ConvGrads<T, N> next[kConvUnroll];
#pragma unroll
  for (int r = 0; r < kConvUnroll; ++r) next[r].load(p, at, at.first + r);
#pragma unroll 1
  for (int64_t t = at.first; t < last; t += kConvUnroll) {
    ConvGrads<T, N> now[kConvUnroll];
#pragma unroll
    for (int r = 0; r < kConvUnroll; ++r) now[r] = next[r];
    if (t + kConvUnroll < last) {
#pragma unroll
      for (int r = 0; r < kConvUnroll; ++r) next[r].load(p, at, t + kConvUnroll + r);
    }
#pragma unroll
    for (int r = 0; r < kConvUnroll; ++r) {
      float pre[N], grad[N];
      sums.shift();
      now[r].x.unpack(sums.window[kWidth - 1]);
      sums.pre(in, pre);
      now[r].of_pre(p.grad_silu != nullptr, pre, sums.grads[kWidth - 1]);
      if (t + r < at.end) sums.add(in);
      sums.of_input(grad);
      write(t + r - (kWidth - 1), grad);
    }
  }
  float* to = p.partial + (at.batch * gridDim.y + blockIdx.y) * (in.width + 1) * in.channels;
  const int skip = kWidth - static_cast<int>(in.width);
#pragma unroll
  for (int n = 0; n < N; ++n) {
    float* mine = to + at.channel + n;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      if (k >= skip) mine[(k - skip) * in.channels] = sums.grad_taps[k][n];
    }
    mine[in.width * in.channels] = sums.grad_bias[n];
  }
}

/// The sums over all blocks, in order.
template <typename T>
__global__ void __launch_bounds__(128) conv_sum_kernel(const ConvBackwardParams p, int64_t rows) {
  const ConvInputs& in = p.in;
  const int64_t i = int64_t{blockIdx.x} * 128 + threadIdx.x, size = (in.width + 1) * in.channels;
  if (i >= size) return;
  float sum = 0;
#pragma unroll 4
  for (int64_t row = 0; row < rows; ++row) sum += p.partial[row * size + i];
  const int64_t k = i / in.channels, channel = i % in.channels;
  void* to = k < in.width ? p.grad_weight : p.grad_bias;
  if (to == nullptr) return;
  const int64_t index = k < in.width ? channel * in.width + k : channel;
  if (in.weight_dtype == KernelDtype::Float32) {
    static_cast<float*>(to)[index] = sum;
  } else {
    static_cast<T*>(to)[index] = from_float<T>(sum);
  }
}

template <typename T, int kWidth, int N>
cudaError_t launch(const ConvBackwardParams& p, cudaStream_t stream) {
  const ConvInputs& in = p.in;
  const int64_t columns = (in.channels + kConvThreads * N - 1) / (kConvThreads * N);
  const int64_t steps = backward_steps(in), blocks = (in.pos + steps - 1) / steps;
  const dim3 grid(static_cast<unsigned>(columns), static_cast<unsigned>(blocks),
                  static_cast<unsigned>(in.batch));
  conv_backward_kernel<T, kWidth, N><<<grid, kConvThreads, 0, stream>>>(p, steps);
  const int64_t size = (in.width + 1) * in.channels;
  conv_sum_kernel<T>
      <<<static_cast<unsigned>((size + 127) / 128), 128, 0, stream>>>(p, conv_backward_rows(in));
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_typed(const ConvBackwardParams& p, cudaStream_t stream) {
  constexpr int kPack = 4;
  const ConvInputs& in = p.in;
  const auto aligned = [](const void* data) {
    return reinterpret_cast<uintptr_t>(data) % (kPack * sizeof(T)) == 0;
  };
  const bool wide = in.channels % kPack == 0 && in.x_batch_stride % kPack == 0 &&
                    in.x_pos_stride % kPack == 0 && aligned(in.x) && aligned(in.state) &&
                    aligned(p.grad_y) && aligned(p.grad_silu) && aligned(p.grad_state) &&
                    aligned(p.grad_x) && aligned(p.grad_before);
  if (in.width == 4) {
    return wide ? launch<T, 4, kPack>(p, stream) : launch<T, 4, 1>(p, stream);
  }
  return launch<T, 8, 1>(p, stream);
}

}  // namespace

int64_t conv_backward_rows(const ConvInputs& in) {
  const int64_t steps = backward_steps(in);
  return in.batch * ((in.pos + steps - 1) / steps);
}

cudaError_t launch_causal_conv1d_backward(const ConvBackwardParams& p, cudaStream_t stream) {
  const ConvInputs& in = p.in;
  if (in.batch == 0 || in.channels == 0 || in.pos == 0) return cudaSuccess;
  if (in.batch > 65535 || in.width < 1 || in.width > kMaxConvWidth) return cudaErrorInvalidValue;
  return dispatch_dtype(in.dtype, [&](auto t) { return launch_typed<decltype(t)>(p, stream); });
}

}  // namespace headlens
