// headlens/kernels: a projection of one row of activations, bounded by reading the weights.
#include "common/dependent_launch.cuh"
#include "decode_linear.cuh"

namespace headlens {
namespace {

constexpr int kWarps = 16, kThreads = 32 * kWarps;
constexpr int kDepth = 5;          // pieces of a warp under way
constexpr int kSpan = 512;         // bytes of a row that a warp reads at once
constexpr int kPiece = 2 * kSpan;  // of two rows
constexpr int kRing = kWarps * kDepth * kPiece;

/// The rows a warp reads, two at a time: units are a pair of rows, dealt out to blocks first and
/// warps second, so that every multiprocessor reads the same number of bytes.
template <typename T>
struct Pairs {
  int64_t unit, units;

  __device__ explicit Pairs(const DecodeMatrices& w)
      : unit(blockIdx.x + static_cast<int64_t>(gridDim.x) * (threadIdx.x / 32)),
        units(w.gated ? w.rows[0] : (total_rows(w) + 1) / 2) {}
  __device__ bool more() const { return unit < units; }
  __device__ void next() { unit += static_cast<int64_t>(gridDim.x) * kWarps; }
  __device__ const char* row(const DecodeMatrices& w, int which) const {
    const int64_t first = w.gated ? unit : 2 * unit;
    const int64_t second = w.gated ? unit + w.rows[0] : min(first + 1, total_rows(w) - 1);
    return reinterpret_cast<const char*>(weight_row<T>(w, which == 0 ? first : second));
  }
};

/// A warp's pieces on their way through its ring; each lane reads only what it has copied itself.
template <typename T>
struct Ring {
  unsigned char* at;  // the lane's 16 bytes of the first piece
  Pairs<T> ahead;
  const char* rows[2];
  int piece = 0;

  __device__ Ring(unsigned char* shared, const DecodeMatrices& w)
      : at(shared + threadIdx.x / 32 * kDepth * kPiece + threadIdx.x % 32 * 16), ahead(w) {
    aim(w);
  }
  __device__ void aim(const DecodeMatrices& w) {
    if (ahead.more()) rows[0] = ahead.row(w, 0), rows[1] = ahead.row(w, 1);
  }
  __device__ void fetch(const DecodeMatrices& w, int slot, int pieces) {
    if (ahead.more()) {
      const int64_t bytes = w.in * static_cast<int64_t>(sizeof(T));
      const int64_t offset = static_cast<int64_t>(piece) * kSpan + threadIdx.x % 32 * 16;
      const bool there = offset < bytes;
      copy_async(at + slot * kPiece, rows[0] + (there ? offset : 0), there);
      copy_async(at + slot * kPiece + kSpan, rows[1] + (there ? offset : 0), there);
      if (++piece == pieces) {
        piece = 0;
        ahead.next();
        aim(w);
      }
    }
    commit_copies();
  }
  __device__ uint4 read(int slot, int row) const {
    return *reinterpret_cast<const uint4*>(at + slot * kPiece + row * kSpan);
  }
};

/// x, normed if asked, into shared memory with zeros up to the next piece.
template <typename T>
__device__ void stage_row(const DecodeLinearParams& p, const T* x, T* row, int64_t padded) {
  constexpr int N = 16 / sizeof(T);
  __shared__ float scratch[32];
  const T* scale = static_cast<const T*>(p.norm_weight);
  const bool normed = scale != nullptr, has_first = normed && threadIdx.x * N < p.w.in;
  Pack<T, N> first_scale;
  if (has_first) first_scale = load_pack<T, N>(scale + threadIdx.x * N);
  wait_for_previous_kernel();
  float squares = 0;
  for (int64_t i = threadIdx.x * N; i < padded; i += kThreads * N) {
    Pack<T, N> values;
    for (int n = 0; n < N; ++n) values.values[n] = from_float<T>(0);
    if (i < p.w.in) values = load_pack<T, N>(x + i);
    for (int n = 0; n < N; ++n) {
      squares = fmaf(to_float(values.values[n]), to_float(values.values[n]), squares);
    }
    store_pack<T, N>(row + i, values);
  }
  if (!normed) return;
  const float inverse = rsqrtf(block_sum(squares, scratch) / static_cast<float>(p.w.in) + p.eps);
  for (int64_t i = threadIdx.x * N; i < p.w.in; i += kThreads * N) {  // this thread's own values
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
__device__ void finish_unit(const DecodeLinearParams& p, int64_t unit, int64_t batch_row,
                            const float (&sums)[2], float residual) {
  const int lane = threadIdx.x % 32;
  T* y = static_cast<T*>(p.y) + batch_row * output_rows(p.w);
  if (p.w.gated) {
    const float gate = with_bias<T>(p, sums[0], unit);
    const float up = with_bias<T>(p, sums[1], unit + p.w.rows[0]);
    if (lane == 0) y[unit] = from_float<T>(rounded<T>(activate(gate, p.activation)) * up);
    return;
  }
  const int64_t row = 2 * unit + lane;
  if (lane > 1 || row >= total_rows(p.w)) return;
  float value = with_bias<T>(p, lane == 0 ? sums[0] : sums[1], row);
  if (p.activation != KernelActivation::None) value = rounded<T>(activate(value, p.activation));
  y[row] = from_float<T>(value + residual);
}

/// The residual that lanes 0 and 1 add in the end; asked for early.
template <typename T>
__device__ float residual_of(const DecodeLinearParams& p, int64_t unit, int64_t batch_row) {
  const int64_t row = 2 * unit + threadIdx.x % 32, rows = total_rows(p.w);
  if (p.residual == nullptr || threadIdx.x % 32 > 1 || row >= rows) return 0;
  return to_float(static_cast<const T*>(p.residual)[batch_row * rows + row]);
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    decode_linear_kernel(const __grid_constant__ DecodeLinearParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  T* row = reinterpret_cast<T*>(shared + kRing);
  // Two blocks fit on a multiprocessor: the next kernel's first weights come while this one works.
  // Not in every kernel, or one multiprocessor gets two blocks of a kernel and another none.
  if (p.overlap) allow_next_kernel();
  const int64_t batch_row = blockIdx.y;
  const int pieces = static_cast<int>((p.w.in * sizeof(T) + kSpan - 1) / kSpan);
  Ring<T> ring(shared, p.w);
  for (int slot = 0; slot < kDepth; ++slot) ring.fetch(p.w, slot, pieces);

  stage_row<T>(p, static_cast<const T*>(p.x) + batch_row * p.w.in, row,
               static_cast<int64_t>(pieces) * kSpan / static_cast<int64_t>(sizeof(T)));
  __syncthreads();

  const auto* x = reinterpret_cast<const uint4*>(row) + threadIdx.x % 32;
  int slot = 0;
  for (Pairs<T> pairs(p.w); pairs.more(); pairs.next()) {
    const float residual = residual_of<T>(p, pairs.unit, batch_row);
    float sums[2] = {0, 0};
    for (int piece = 0; piece < pieces; ++piece) {
      wait_for_copies<kDepth - 1>();
      const uint4 a = ring.read(slot, 0), b = ring.read(slot, 1), values = x[piece * 32];
      sums[0] = dot16<T>(a, values, sums[0]);
      sums[1] = dot16<T>(b, values, sums[1]);
      ring.fetch(p.w, slot, pieces);
      slot = slot + 1 == kDepth ? 0 : slot + 1;
    }
    sums[0] = warp_sum(sums[0]);
    sums[1] = warp_sum(sums[1]);
    finish_unit<T>(p, pairs.unit, batch_row, sums, residual);
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
    const int64_t bytes = p.w.in * static_cast<int64_t>(sizeof(T));
    if (bytes % 16 != 0 || bytes > kMaxDecodeRowBytes) return cudaErrorInvalidValue;
    const dim3 grid(static_cast<unsigned>(processors), static_cast<unsigned>(p.batch));
    const size_t shared = kRing + static_cast<size_t>((bytes + kSpan - 1) / kSpan * kSpan);
    return launch_dependent(decode_linear_kernel<T>, p, grid, kThreads, shared, stream);
  });
}

}  // namespace headlens
