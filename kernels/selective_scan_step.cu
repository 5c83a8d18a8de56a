// headlens/kernels: one position of the selective scan, which a decoder calls.
#include "selective_scan_tile.cuh"

namespace headlens {
namespace {

constexpr int kStepThreads = 128, kStepLanes = 4;

/// kStepLanes threads a channel share its states.
template <typename T>
__global__ void __launch_bounds__(kStepThreads) scan_step_kernel(const ScanForwardParams p) {
  const ScanInputs& in = p.in;
  const int batch = static_cast<int>(blockIdx.y), lane = static_cast<int>(threadIdx.x) % kStepLanes;
  const int64_t channel =
      int64_t{blockIdx.x} * (kStepThreads / kStepLanes) + threadIdx.x / kStepLanes;
  const bool inside = channel < in.channels;  // all lanes stay for the sum
  const int64_t c = inside ? channel : 0, d_state = in.d_state;
  const auto read = [&](const ScanView& view, int64_t i) {
    return to_float(static_cast<const T*>(view.data)[batch * view.batch_stride + i]);
  };
  const float x = read(in.x, c);
  float dt = in.dt_dtype == KernelDtype::Float32
                 ? static_cast<const float*>(in.dt.data)[batch * in.dt.batch_stride + c]
                 : read(in.dt, c);
  if (in.dt_bias != nullptr) dt += in.dt_bias[c];
  if (in.softplus) dt = softplus(dt);
  const int64_t at = (batch * in.channels + c) * d_state;
  float y = 0;
#pragma unroll 4
  for (int64_t n = lane; n < d_state; n += kStepLanes) {
    const float before = in.state != nullptr ? in.state[at + n] : 0;
    const float h =
        fmaf(exp2_fast(dt * (in.A[c * d_state + n] * kLog2E)), before, dt * x * read(in.B, n));
    y = fmaf(h, read(in.C, n), y);
    if (inside && p.state != nullptr) p.state[at + n] = h;
  }
  for (int mask = 1; mask < kStepLanes; mask *= 2) y += __shfl_xor_sync(0xffffffffu, y, mask);
  if (!inside || lane != 0) return;
  const int64_t to = batch * in.channels + c;
  const auto write = [&](void* out, float value) {
    if (out != nullptr) static_cast<T*>(out)[to] = from_float<T>(value);
  };
  write(p.y, y);
  if (in.D != nullptr) y = fmaf(in.D[c], x, y);
  write(p.skip, y);
  if (p.gated != nullptr) write(p.gated, y * silu_fast(read(p.z, c)));
}

}  // namespace

cudaError_t launch_selective_scan_step(const ScanForwardParams& p, cudaStream_t stream) {
  if (p.in.batch == 0 || p.in.channels == 0) return cudaSuccess;
  if (p.in.batch > 65535 || p.in.pos != 1) return cudaErrorInvalidValue;
  constexpr int64_t kChannels = kStepThreads / kStepLanes;
  const dim3 grid(static_cast<unsigned>((p.in.channels + kChannels - 1) / kChannels),
                  static_cast<unsigned>(p.in.batch));
  return dispatch_dtype(p.in.dtype, [&](auto t) {
    scan_step_kernel<decltype(t)><<<grid, kStepThreads, 0, stream>>>(p);
    return cudaGetLastError();
  });
}

}  // namespace headlens
