// headlens/kernels: launches of the selective scan's backward, and its last sums.
#include <algorithm>

#include "selective_scan_backward.cuh"

namespace headlens {
namespace {

/// The gradients that enter each piece from later ones, in the place of those that it leaves.
__global__ void __launch_bounds__(256)
    combine_backward_kernel(const ScanBackwardParams p, int pieces) {
  const ScanInputs& in = p.in;
  const int64_t size = in.channels * in.d_state, at = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (at >= size) return;
  const int64_t batch = blockIdx.y;
  const float A = in.A[at] * kLog2E;
  float* carry = p.carry + batch * pieces * size + at;
  const float* sums = p.dt_sums + batch * pieces * in.channels + at / in.d_state;
  float g = p.grad_state != nullptr ? p.grad_state[batch * size + at] : 0;
  for (int from = pieces - 1; from >= 0; from -= kScanCombined) {
    float left[kScanCombined], decay[kScanCombined];
#pragma unroll
    for (int i = 0; i < kScanCombined; ++i) {
      const int piece = from - i;
      left[i] = piece > 0 ? carry[piece * size] : 0;
      decay[i] = piece > 0 ? exp2_fast(A * sums[piece * in.channels]) : 0;
    }
#pragma unroll
    for (int i = 0; i < kScanCombined; ++i) {
      if (from - i >= 0) carry[(from - i) * size] = g;
      g = fmaf(decay[i], g, left[i]);
    }
  }
}

/// to[i] = sum over `count` rows of from[row][i]
__global__ void __launch_bounds__(128)
    sum_rows_kernel(const float* from, float* to, int count, int64_t size) {
  const int64_t i = int64_t{blockIdx.x} * 128 + threadIdx.x;
  if (i >= size) return;
  float sum = 0;
#pragma unroll 4
  for (int row = 0; row < count; ++row) sum += from[row * size + i];
  to[i] = sum;
}

/// B's and C's gradients from those of every block of channels: states first .. of [rows, d_state].
template <typename T>
__global__ void __launch_bounds__(128)
    sum_grad_rows_kernel(const ScanBackwardParams p, int first, int blocks, int64_t rows) {
  constexpr int kRow = 2 * static_cast<int>(kScanStates);
  const int64_t i = int64_t{blockIdx.x} * 128 + threadIdx.x, size = rows * kRow;
  if (i >= size) return;
  float sum = 0;
#pragma unroll 8
  for (int block = 0; block < blocks; ++block) sum += p.partial_rows[block * size + i];
  const int64_t row = i / kRow;
  const int which = static_cast<int>(i % kRow) / static_cast<int>(kScanStates),
            n = first + static_cast<int>(i % kScanStates);
  if (n >= static_cast<int>(p.in.d_state)) return;
  static_cast<T*>(which == 0 ? p.grad_B : p.grad_C)[row * p.in.d_state + n] = from_float<T>(sum);
}

unsigned blocks_of(int64_t size, int64_t each) {
  return static_cast<unsigned>((size + each - 1) / each);
}

template <typename T, bool kWide>
cudaError_t launch_passes(const ScanBackwardParams& p, ScanBackwardPass pass, cudaStream_t stream) {
  using Tile = ScanTile<T>;
  const ScanInputs& in = p.in;
  constexpr int kShared = static_cast<int>(sizeof(ScanBackwardShared<Tile>));
  const auto kernel = scan_backward_kernel<T, kWide>;
  const cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (status != cudaSuccess) return status;
  const unsigned blocks = blocks_of(in.channels, Tile::kChannels),
                 batch = static_cast<unsigned>(in.batch),
                 pieces = static_cast<unsigned>(pass.pieces);
  const int d_state = static_cast<int>(in.d_state), step = static_cast<int>(kScanStates);
  const auto each_pass = [&](auto&& launch) {
    for (pass.first = 0; pass.first < d_state; pass.first += step) {
      pass.starts = pass.first == 0, pass.ends = pass.first + step >= d_state;
      launch();
    }
  };
  if (pieces > 1) {
    each_pass([&] {
      scan_backward_carry_kernel<T, kWide>
          <<<dim3(blocks, batch, pieces - 1), Tile::kThreads, 0, stream>>>(p, pass);
    });
    combine_backward_kernel<<<dim3(blocks_of(in.channels * in.d_state, 256), batch), 256, 0,
                              stream>>>(p, pass.pieces);
  }
  const int64_t rows = in.batch * in.pos;
  each_pass([&] {
    kernel<<<dim3(blocks, batch, pieces), Tile::kThreads, kShared, stream>>>(p, pass);
    sum_grad_rows_kernel<T><<<blocks_of(rows * 2 * kScanStates, 128), 128, 0, stream>>>(
        p, pass.first, static_cast<int>(blocks), rows);
  });
  const int parts = static_cast<int>(in.batch) * pass.pieces;
  const int64_t size = in.channels * in.d_state;
  sum_rows_kernel<<<blocks_of(size, 128), 128, 0, stream>>>(p.partial_A, p.grad_A, parts, size);
  if (p.partial_D != nullptr) {
    sum_rows_kernel<<<blocks_of(in.channels, 128), 128, 0, stream>>>(p.partial_D, p.grad_D, parts,
                                                                     in.channels);
  }
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_typed(const ScanBackwardParams& p, cudaStream_t stream) {
  ScanBackwardPass pass{};
  const ScanInputs& in = p.in;
  const int dt_size = in.dt_dtype == KernelDtype::Float32 ? 4 : static_cast<int>(sizeof(T));
  const bool wide = in.channels % (16 / sizeof(T)) == 0 && aligned(in.x, sizeof(T)) &&
                    aligned(p.grad_y, sizeof(T)) && aligned(in.dt, dt_size) &&
                    aligned(p.grad_x, 0, 0, sizeof(T)) && aligned(p.grad_dt, 0, 0, dt_size);
  pass.wide_rows =
      in.d_state % kScanStates == 0 && aligned(in.B, sizeof(T)) && aligned(in.C, sizeof(T));
  pass.length = scan_piece_length(in.pos, p.pieces);
  pass.pieces = static_cast<int>((in.pos + pass.length - 1) / pass.length);
  return wide ? launch_passes<T, true>(p, pass, stream) : launch_passes<T, false>(p, pass, stream);
}

template <typename T, bool kWide>
__global__ void __launch_bounds__(256) gate_backward_kernel(const ScanGateBackwardParams p) {
  constexpr int kVec = kWide ? 16 / static_cast<int>(sizeof(T)) : 1;
  const int64_t i = (int64_t{blockIdx.x} * 256 + threadIdx.x) * kVec;
  if (i >= p.batch * p.pos * p.channels) return;
  const int64_t row = i / p.channels, channel = i % p.channels;
  const T* gate = static_cast<const T*>(p.z) + row / p.pos * p.z_batch_stride +
                  row % p.pos * p.z_pos_stride + channel;
  float z[kVec], grad[kVec], skip[kVec], grad_z[kVec];
  Raw<T, kVec>::load(gate).unpack(z);
  Raw<T, kVec>::load(static_cast<const T*>(p.grad_gated) + i).unpack(grad);
  Raw<T, kVec>::load(static_cast<const T*>(p.skip) + i).unpack(skip);
#pragma unroll
  for (int j = 0; j < kVec; ++j) {
    const float s = __fdividef(1.0f, 1.0f + __expf(-z[j]));
    grad_z[j] = grad[j] * skip[j] * s * fmaf(z[j], 1 - s, 1.0f);
    grad[j] *= z[j] * s;
  }
  Raw<T, kVec>::pack(grad).store(static_cast<T*>(p.grad_skip) + i);
  Raw<T, kVec>::pack(grad_z).store(static_cast<T*>(p.grad_z) + i);
}

}  // namespace

int64_t scan_channel_blocks(int64_t channels) {
  constexpr int64_t kChannels = ScanTile<float>::kChannels;
  return (channels + kChannels - 1) / kChannels;
}

int64_t scan_backward_pieces(int64_t batch, int64_t pos, int64_t channels) {
  constexpr int64_t kBlocks = 132 * 4, kShortest = 32;  // two blocks a multiprocessor, two rounds
  const int64_t pieces = kBlocks / std::max<int64_t>(1, batch * scan_channel_blocks(channels));
  return std::max<int64_t>(1, std::min(pieces, (pos + kShortest - 1) / kShortest));
}

cudaError_t launch_selective_scan_backward(const ScanBackwardParams& p, cudaStream_t stream) {
  if (p.in.batch == 0 || p.in.channels == 0 || p.in.pos == 0) return cudaSuccess;
  if (p.in.batch > 65535 || p.in.pos >= kScanMaxPos || p.pieces < 1) {
    return cudaErrorInvalidValue;
  }
  return dispatch_dtype(p.in.dtype, [&](auto t) { return launch_typed<decltype(t)>(p, stream); });
}

cudaError_t launch_scan_gate_backward(const ScanGateBackwardParams& p, cudaStream_t stream) {
  const int64_t size = p.batch * p.pos * p.channels;
  if (size == 0) return cudaSuccess;
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    constexpr int64_t kVec = 16 / sizeof(T);
    const bool wide = p.channels % kVec == 0 &&
                      aligned(p.z, p.z_batch_stride, p.z_pos_stride, sizeof(T)) &&
                      aligned(p.grad_gated, 0, 0, sizeof(T)) && aligned(p.skip, 0, 0, sizeof(T)) &&
                      aligned(p.grad_skip, 0, 0, sizeof(T)) && aligned(p.grad_z, 0, 0, sizeof(T));
    if (wide) {
      gate_backward_kernel<T, true><<<blocks_of(size / kVec, 256), 256, 0, stream>>>(p);
    } else {
      gate_backward_kernel<T, false><<<blocks_of(size, 256), 256, 0, stream>>>(p);
    }
    return cudaGetLastError();
  });
}

}  // namespace headlens
