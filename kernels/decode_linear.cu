// headlens/kernels: a projection of one row of activations, bounded by reading the weights.
#include "common/dependent_launch.cuh"
#include "decode_linear.cuh"

namespace headlens {
namespace {

constexpr int kWarps = 16, kThreads = 32 * kWarps;
constexpr int kDepth = 5;        // pieces of a warp under way
constexpr int kSpan = 512;       // bytes of a row that a warp reads at once
constexpr int kPiece = 2 * kSpan;  // of two rows
constexpr int kRing = kWarps * kDepth * kPiece;

/// The pieces a warp reads, two rows at a time: units are a pair of rows, dealt out to blocks first
/// and warps second, so that every multiprocessor reads the same number of bytes.
template <typename T>
struct Cursor {
  int64_t unit;
  int piece = 0;
  const char* rows[2];

  __device__ void aim(const DecodeLinearParams& p) {
    const int64_t first = p.gated ? unit : 2 * unit;
    const int64_t second = p.gated ? unit + p.rows[0] : min(first + 1, total_rows(p) - 1);
    rows[0] = reinterpret_cast<const char*>(weight_row<T>(p, first).weight);
    rows[1] = reinterpret_cast<const char*>(weight_row<T>(p, second).weight);
  }
  __device__ void next(const DecodeLinearParams& p, int64_t units, int pieces, int64_t stride) {
    if (++piece < pieces) return;
    piece = 0;
    unit += stride;
    if (unit < units) aim(p);
  }
};

/// x, normed if asked, into shared memory with zeros up to the next piece.
template <typename T>
__device__ void stage_row(const DecodeLinearParams& p, const T* x, T* row, int64_t padded) {
  constexpr int N = 16 / sizeof(T);
  __shared__ float scratch[32];
  const T* scale = static_cast<const T*>(p.norm_weight);
  const bool normed = scale != nullptr, has_first = normed && threadIdx.x * N < p.in;
  Pack<T, N> first_scale;
  if (has_first) first_scale = load_pack<T, N>(scale + threadIdx.x * N);
  wait_for_previous_kernel();
  float squares = 0;
  for (int64_t i = threadIdx.x * N; i < padded; i += kThreads * N) {
    Pack<T, N> values;
    for (int n = 0; n < N; ++n) values.values[n] = from_float<T>(0);
    if (i < p.in) values = load_pack<T, N>(x + i);
    for (int n = 0; n < N; ++n) {
      squares = fmaf(to_float(values.values[n]), to_float(values.values[n]), squares);
    }
    store_pack<T, N>(row + i, values);
  }
  if (!normed) return;
  const float inverse = rsqrtf(block_sum(squares, scratch) / static_cast<float>(p.in) + p.eps);
  for (int64_t i = threadIdx.x * N; i < p.in; i += kThreads * N) {  // this thread's own values
    auto values = load_pack<T, N>(row + i);
    const auto weight = i < kThreads * N ? first_scale : load_pack<T, N>(scale + i);
    for (int n = 0; n < N; ++n) {
      const float normed = to_float(values.values[n]) * inverse, w = to_float(weight.values[n]);
      values.values[n] = from_float<T>(p.plus_one ? normed * (1 + w) : rounded<T>(normed) * w);
    }
    store_pack<T, N>(row + i, values);
  }
}

/// What follows the sums of a unit's two rows, in lanes 0 and 1.
template <typename T>
__device__ void finish_unit(const DecodeLinearParams& p, int64_t unit, int64_t batch_row, int lane,
                            const float (&sums)[2], float residual) {
  T* y = static_cast<T*>(p.y) + batch_row * output_rows(p);
  if (p.gated) {
    const float gate = with_bias(sums[0], weight_row<T>(p, unit).bias);
    const float up = with_bias(sums[1], weight_row<T>(p, unit + p.rows[0]).bias);
    if (lane == 0) y[unit] = from_float<T>(rounded<T>(activate(gate, p.activation)) * up);
    return;
  }
  const int64_t row = 2 * unit + lane;
  if (lane > 1 || row >= total_rows(p)) return;
  float value = with_bias(lane == 0 ? sums[0] : sums[1], weight_row<T>(p, row).bias);
  if (p.activation != KernelActivation::None) value = rounded<T>(activate(value, p.activation));
  y[row] = from_float<T>(value + residual);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    decode_linear_kernel(const __grid_constant__ DecodeLinearParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  // Two blocks fit on a multiprocessor: the next kernel's starts where one of the last kernel's has
  // ended, and reads its first weights while this one works.
  if (p.early == 1) allow_next_kernel();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  unsigned char* ring = shared + warp * kDepth * kPiece + lane * 16;  // each lane reads its own bytes
  T* row = reinterpret_cast<T*>(shared + kRing);
  const int64_t bytes = p.in * sizeof(T), batch_row = blockIdx.y;
  const int pieces = static_cast<int>((bytes + kSpan - 1) / kSpan);
  const int64_t units = p.gated ? p.rows[0] : (total_rows(p) + 1) / 2;
  const int64_t first_unit = blockIdx.x + static_cast<int64_t>(gridDim.x) * warp;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps;

  Cursor<T> ahead{first_unit};
  if (ahead.unit < units) ahead.aim(p);
  const auto fetch = [&](int slot) {
    if (ahead.unit < units) {
      const int64_t offset = static_cast<int64_t>(ahead.piece) * kSpan + lane * 16;
      const bool there = offset < bytes;
      const int64_t from = there ? offset : 0;
      copy_async(ring + slot * kPiece, ahead.rows[0] + from, there);
      copy_async(ring + slot * kPiece + kSpan, ahead.rows[1] + from, there);
      ahead.next(p, units, pieces, stride);
    }
    commit_copies();
  };
  for (int slot = 0; slot < kDepth; ++slot) fetch(slot);

  stage_row<T>(p, static_cast<const T*>(p.x) + batch_row * p.in, row,
               static_cast<int64_t>(pieces) * kSpan / static_cast<int64_t>(sizeof(T)));
  if (p.early == 2) allow_next_kernel();
  __syncthreads();

  const auto* x = reinterpret_cast<const uint4*>(row) + lane;
  int slot = 0;
  for (int64_t unit = first_unit; unit < units; unit += stride) {
    float residual = 0, sums[2] = {0, 0};
    if (p.residual != nullptr && lane < 2 && 2 * unit + lane < total_rows(p)) {
      const T* from = static_cast<const T*>(p.residual) + batch_row * total_rows(p);
      residual = to_float(from[2 * unit + lane]);
    }
    for (int piece = 0; piece < pieces; ++piece) {
      wait_for_copies<kDepth - 1>();
      const uint4 a = *reinterpret_cast<const uint4*>(ring + slot * kPiece);
      const uint4 b = *reinterpret_cast<const uint4*>(ring + slot * kPiece + kSpan);
      const uint4 values = x[piece * 32];
      sums[0] = dot16<T>(a, values, sums[0]);
      sums[1] = dot16<T>(b, values, sums[1]);
      fetch(slot);
      slot = slot + 1 == kDepth ? 0 : slot + 1;
    }
    sums[0] = warp_sum(sums[0]);
    sums[1] = warp_sum(sums[1]);
    finish_unit<T>(p, unit, batch_row, lane, sums, residual);
  }
}

}  // namespace

cudaError_t launch_decode_linear(const DecodeLinearParams& p, cudaStream_t stream) {
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    int device = 0, processors = 0;
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess) {
      status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (status != cudaSuccess) return status;
    const int64_t bytes = p.in * static_cast<int64_t>(sizeof(T));
    if (bytes % 16 != 0 || bytes > kMaxDecodeRowBytes) return cudaErrorInvalidValue;
    const dim3 grid(static_cast<unsigned>(processors), static_cast<unsigned>(p.batch));
    const size_t shared = kRing + static_cast<size_t>((bytes + kSpan - 1) / kSpan * kSpan);
    return launch_dependent(decode_linear_kernel<T>, p, grid, kThreads, shared, stream);
  });
}

}  // namespace headlens
