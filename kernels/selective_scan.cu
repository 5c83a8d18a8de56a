// headlens/kernels: launches of the selective scan's forward.
#include "selective_scan.h"

#include "selective_scan_forward.cuh"

namespace headlens {
namespace {

template <typename T, bool kWide, bool kCarry>
cudaError_t launch_passes(const ScanForwardParams& p, ScanPass pass, cudaStream_t stream) {
  using Tile = ScanTile<T>;
  constexpr size_t kShared = sizeof(ScanShared<T>);
  const auto kernel = scan_forward_kernel<T, kWide, kCarry>;
  const cudaError_t status = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kShared));
  if (status != cudaSuccess) return status;
  // What the last piece leaves is wanted by nobody.
  const int pieces = kCarry ? pass.pieces - 1 : pass.pieces;
  const dim3 grid(static_cast<unsigned>((p.in.channels + Tile::kChannels - 1) / Tile::kChannels),
                  static_cast<unsigned>(p.in.batch), static_cast<unsigned>(pieces));
  const int d_state = static_cast<int>(p.in.d_state), step = static_cast<int>(kScanStates);
  for (pass.first = 0; pass.first < d_state; pass.first += step) {
    pass.starts = pass.first == 0, pass.ends = pass.first + step >= d_state;
    kernel<<<grid, kScanBlock, kShared, stream>>>(p, pass);
  }
  return cudaGetLastError();
}

template <typename T, bool kWide>
cudaError_t launch_pieces(const ScanForwardParams& p, const ScanPass& pass, cudaStream_t stream) {
  if (pass.pieces > 1) {
    const cudaError_t status = launch_passes<T, kWide, true>(p, pass, stream);
    if (status != cudaSuccess) return status;
    const dim3 grid(static_cast<unsigned>((p.in.channels * p.in.d_state + 255) / 256),
                    static_cast<unsigned>(p.in.batch));
    scan_combine_kernel<<<grid, 256, 0, stream>>>(p, pass.pieces);
  }
  return launch_passes<T, kWide, false>(p, pass, stream);
}

template <typename T>
cudaError_t launch_typed(const ScanForwardParams& p, cudaStream_t stream) {
  ScanPass pass{};
  const ScanInputs& in = p.in;
  const bool wide = in.channels % (16 / sizeof(T)) == 0 && aligned(in.x, sizeof(T)) &&
                    aligned(p.z, sizeof(T)) &&
                    aligned(in.dt, in.dt_dtype == KernelDtype::Float32 ? 4 : sizeof(T)) &&
                    aligned(p.y, 0, 0, sizeof(T)) && aligned(p.skip, 0, 0, sizeof(T)) &&
                    aligned(p.gated, 0, 0, sizeof(T));
  pass.wide_rows =
      in.d_state % kScanStates == 0 && aligned(in.B, sizeof(T)) && aligned(in.C, sizeof(T));
  pass.length = scan_piece_length(in.pos, p.pieces);
  pass.pieces = static_cast<int>((in.pos + pass.length - 1) / pass.length);
  return wide ? launch_pieces<T, true>(p, pass, stream) : launch_pieces<T, false>(p, pass, stream);
}

}  // namespace

int64_t scan_pieces(int64_t batch, int64_t pos, int64_t channels) {
  constexpr int64_t kChannels = ScanTile<float>::kChannels, kBlocks = 132 * 2, kShortest = 64;
  const int64_t blocks = batch * ((channels + kChannels - 1) / kChannels);
  // Two pieces do three halves of the work of one, many do twice as much: few are not worth it.
  if (blocks * 4 > kBlocks) return 1;
  const int64_t pieces = kBlocks / blocks, longest = (pos + kShortest - 1) / kShortest;
  return pieces < longest ? pieces : longest > 1 ? longest : 1;
}

cudaError_t launch_selective_scan(const ScanForwardParams& p, cudaStream_t stream) {
  if (p.in.batch == 0 || p.in.channels == 0 || p.in.pos == 0) return cudaSuccess;
  if (p.in.batch > 65535 || p.in.pos >= kScanMaxPos || p.pieces < 1) {
    return cudaErrorInvalidValue;
  }
  return dispatch_dtype(p.in.dtype, [&](auto t) { return launch_typed<decltype(t)>(p, stream); });
}

}  // namespace headlens
