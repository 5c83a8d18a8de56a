// headlens/kernels: one position of the Mamba-2 scan, for decoding.
#include "common/vector.cuh"
#include "ssd_tiles.cuh"

namespace headlens {
namespace {

constexpr int kRowsAThread = 4;  // rows of the state in flight, to hide the latency of memory

template <typename T>
__device__ float4 load4(const T* from) {
  const Pack<T, 4> v = load_pack<T, 4>(from);
  return make_float4(to_float(v.values[0]), to_float(v.values[1]), to_float(v.values[2]),
                     to_float(v.values[3]));
}

/// kLanes threads share a row of the state. grid (part of the rows, head, batch).
template <typename T, int kLanes>
__global__ void __launch_bounds__(kSsdThreads) ssd_step_kernel(const SsdParams p) {
  constexpr int kRowsAtOnce = kSsdThreads / kLanes;
  const int head = blockIdx.y, batch = blockIdx.z, lane = threadIdx.x % kLanes;
  const int first = blockIdx.x * kRowsAtOnce * kRowsAThread + threadIdx.x / kLanes;
  const int group = head / (p.heads / p.groups);
  const float decay = expf(*row_of<float>(p.log_decay, batch, 0, head));
  const float dt = p.dt.data != nullptr ? *row_of<float>(p.dt, batch, 0, head) : 1.0f;
  const T *x = row_of<T>(p.x, batch, 0, head), *B = row_of<T>(p.B, batch, 0, group),
          *C = row_of<T>(p.C, batch, 0, group);
  const int64_t states = (int64_t(batch) * p.heads + head) * p.d_head * p.d_state;

  float xs[kRowsAThread], y[kRowsAThread] = {};
#pragma unroll
  for (int i = 0; i < kRowsAThread; ++i) {
    const int row = first + i * kRowsAtOnce;
    xs[i] = row < p.d_head ? to_float(x[row]) : 0.0f;
  }
  for (int n = lane * 4; n < p.d_state; n += kLanes * 4) {
    const float4 b = load4(B + n), c = load4(C + n);
    float4 h[kRowsAThread];
#pragma unroll
    for (int i = 0; i < kRowsAThread; ++i) {
      const int row = first + i * kRowsAtOnce;
      const bool held = p.state_in != nullptr && row < p.d_head;
      h[i] =
          held
              ? *reinterpret_cast<const float4*>(p.state_in + states + int64_t(row) * p.d_state + n)
              : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
#pragma unroll
    for (int i = 0; i < kRowsAThread; ++i) {
      const int row = first + i * kRowsAtOnce;
      const float u = dt * xs[i];
      h[i] = make_float4(decay * h[i].x + u * b.x, decay * h[i].y + u * b.y,
                         decay * h[i].z + u * b.z, decay * h[i].w + u * b.w);
      y[i] += h[i].x * c.x + h[i].y * c.y + h[i].z * c.z + h[i].w * c.w;
      if (row >= p.d_head) continue;
      *reinterpret_cast<float4*>(p.state_out + states + int64_t(row) * p.d_state + n) = h[i];
    }
  }
  T* out = const_cast<T*>(row_of<T>(p.y, batch, 0, head));
#pragma unroll
  for (int i = 0; i < kRowsAThread; ++i) {
    const int row = first + i * kRowsAtOnce;
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      y[i] += __shfl_xor_sync(0xffffffffu, y[i], offset);
    }
    if (p.D != nullptr) y[i] += p.D[head] * xs[i];
    if (lane == 0 && row < p.d_head) out[row] = from_float<T>(y[i]);
  }
}

template <typename T, int kLanes>
cudaError_t launch(const SsdParams& p, cudaStream_t stream) {
  constexpr int kRows = kSsdThreads / kLanes * kRowsAThread;
  const dim3 grid((p.d_head + kRows - 1) / kRows, p.heads, p.batch);
  ssd_step_kernel<T, kLanes><<<grid, kSsdThreads, 0, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

bool ssd_step_supports(const SsdParams& p) {
  return p.pos == 1 && p.d_state % 4 == 0 && p.heads <= 65535 && p.batch <= 65535;
}

cudaError_t launch_ssd_step(const SsdParams& p, cudaStream_t stream) {
  if (!ssd_step_supports(p)) return cudaErrorInvalidValue;
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    return p.d_state > 64 ? launch<T, 32>(p, stream) : launch<T, 16>(p, stream);
  });
}

}  // namespace headlens
