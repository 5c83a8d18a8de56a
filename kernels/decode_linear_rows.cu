// headlens/kernels: a projection of up to eight rows a pass, on the tensor cores.
#include "common/dependent_launch.cuh"
#include "decode_linear.cuh"

namespace headlens {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kDepth = 3;     // pieces of a warp under way
constexpr int kColumns = 64;  // of W that a piece has
constexpr int kBatch = 8;     // rows of x a pass

/// D += A B with m16n8k16 of 2-byte elements.
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2], __nv_bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2], __half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// 32 columns: lane (g, t) has columns 8 t .. 8 t + 7 of W's rows g and g + 8 and of x's row g. Any
/// order of columns serves that both have, so these are two products' fragments as they lie.
template <typename T>
__device__ __forceinline__ void multiply_32(float (&d)[4], const uint4& top, const uint4& bottom,
                                            const uint4& x) {
  const uint32_t a0[4] = {top.x, bottom.x, top.y, bottom.y}, b0[2] = {x.x, x.y};
  const uint32_t a1[4] = {top.z, bottom.z, top.w, bottom.w}, b1[2] = {x.z, x.w};
  multiply(d, a0, b0, T());
  multiply(d, a1, b1, T());
}

/// A block's tile is 16 * kTiles rows of W; its warps share the columns. Gated: tile 0 has rows of
/// the gate, tile 1 the same of up.
template <int kTiles>
struct Tile {
  static constexpr int kLoads = kTiles * 4;             // of 16 bytes a lane, for a piece
  static constexpr int kPieceBytes = kLoads * 512;      // of weights
  static constexpr int kStage = kPieceBytes + 2 * 512;  // and of x
  static constexpr int kRing = kWarps * kDepth * kStage;
  static constexpr int kSums = kWarps * kTiles * 16 * kBatch * static_cast<int>(sizeof(float));

  __device__ static int64_t row(const DecodeMatrices& w, int64_t tile, int m, int inner) {
    if (w.gated) return min(tile * 16 + inner, w.rows[0] - 1) + m * w.rows[0];
    return min(tile * 16 * kTiles + m * 16 + inner, total_rows(w) - 1);
  }
};

/// One element of y from the sum of the warps' parts.
template <typename T, int kTiles>
__device__ void finish_tile(const DecodeLinearParams& p, int64_t tile, const float* sums,
                            int64_t batch_from) {
  const auto total = [&](int index) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += sums[w * kTiles * 16 * kBatch + index];
    return sum;
  };
  const int count = (p.w.gated ? 16 : 16 * kTiles) * kBatch;
  const int64_t outputs = output_rows(p.w);
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const int inner = i / kBatch;
    const int64_t batch_row = batch_from + i % kBatch;
    const int64_t row = tile * (p.w.gated ? 16 : 16 * kTiles) + inner;
    if (row >= outputs || batch_row >= p.batch) continue;
    float value = with_bias<T>(p, total(i), row);
    if (p.activation != KernelActivation::None) value = rounded<T>(activate(value, p.activation));
    if (p.w.gated) {
      value *= with_bias<T>(p, total(16 * kBatch + i), row + p.w.rows[0]);
    }
    const int64_t at = batch_row * outputs + row;
    if (p.residual != nullptr)
      value = rounded<T>(value) + to_float(static_cast<const T*>(p.residual)[at]);
    static_cast<T*>(p.y)[at] = from_float<T>(value);
  }
}

template <typename T, int kTiles>
__global__ void __launch_bounds__(kThreads, 2)
    decode_linear_rows_kernel(const __grid_constant__ DecodeLinearParams p) {
  using Shape = Tile<kTiles>;
  extern __shared__ __align__(16) unsigned char shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  unsigned char* ring = shared + warp * kDepth * Shape::kStage + lane * 16;
  float* sums = reinterpret_cast<float*>(shared + Shape::kRing);
  const int64_t batch_from = static_cast<int64_t>(blockIdx.y) * kBatch;
  const int64_t tile_rows = p.w.gated ? 16 : 16 * kTiles;
  const int64_t tiles = (output_rows(p.w) + tile_rows - 1) / tile_rows;
  const int pieces = static_cast<int>((p.w.in + kColumns - 1) / kColumns);
  const int own = (pieces - warp + kWarps - 1) / kWarps;  // pieces warp, warp + kWarps, ..
  const T* x = static_cast<const T*>(p.x) + (batch_from + g) * p.w.in;
  const bool in_batch = batch_from + g < p.batch;

  int64_t tile_ahead = blockIdx.x;
  int ahead = 0;
  const T* rows[kTiles * 2];
  const auto aim = [&] {
#pragma unroll
    for (int r = 0; r < kTiles * 2; ++r) {
      const int64_t row = Shape::row(p.w, tile_ahead, r / 2, g + r % 2 * 8);
      rows[r] = weight_row<T>(p.w, row);
    }
  };
  if (own > 0 && tile_ahead < tiles) aim();
  const auto fetch_weights = [&](int slot, int64_t column) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t from = column + half * 32;
      const bool there = from < p.w.in;
#pragma unroll
      for (int r = 0; r < kTiles * 2; ++r) {
        copy_async(ring + slot * Shape::kStage + (half * kTiles * 2 + r) * 512,
                   rows[r] + (there ? from : 0), there);
      }
    }
  };
  const auto fetch_x = [&](int slot, int64_t column) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t from = column + half * 32;
      const bool there = in_batch && from < p.w.in;
      copy_async(ring + slot * Shape::kStage + Shape::kPieceBytes + half * 512,
                 there ? x + from : p.x, there);
    }
  };
  const auto column_of = [&](int piece) {
    return static_cast<int64_t>(warp + piece * kWarps) * kColumns + t * 8;
  };
  const auto advance = [&] {
    if (++ahead < own) return;
    ahead = 0;
    tile_ahead += gridDim.x;
    if (tile_ahead < tiles) aim();
  };

  // Weights of the first pieces come while the kernel before this one still makes x.
  const bool any = own > 0;
  int64_t first_columns[kDepth];
  int primed = 0;
#pragma unroll
  for (int slot = 0; slot < kDepth; ++slot) {
    first_columns[slot] = column_of(ahead);
    if (any && tile_ahead < tiles) {
      fetch_weights(slot, first_columns[slot]);
      advance();
      ++primed;
    }
  }
  wait_for_previous_kernel();
#pragma unroll
  for (int slot = 0; slot < kDepth; ++slot) {
    if (slot < primed) fetch_x(slot, first_columns[slot]);
    commit_copies();
  }

  int slot = 0;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float d[kTiles][4] = {};
    for (int piece = 0; piece < own; ++piece) {
      wait_for_copies<kDepth - 1>();
      const unsigned char* stage = ring + slot * Shape::kStage;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto part = [&](int r) {
          return *reinterpret_cast<const uint4*>(stage + (half * kTiles * 2 + r) * 512);
        };
        const uint4 values =
            *reinterpret_cast<const uint4*>(stage + Shape::kPieceBytes + half * 512);
#pragma unroll
        for (int m = 0; m < kTiles; ++m) multiply_32<T>(d[m], part(2 * m), part(2 * m + 1), values);
      }
      if (tile_ahead < tiles) {
        const int64_t column = column_of(ahead);
        fetch_weights(slot, column);
        fetch_x(slot, column);
        advance();
      }
      commit_copies();
      slot = slot + 1 == kDepth ? 0 : slot + 1;
    }
    float* to = sums + warp * kTiles * 16 * kBatch;
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      float* at = to + (m * 16 + g) * kBatch + 2 * t;
      at[0] = d[m][0], at[1] = d[m][1];
      at[8 * kBatch] = d[m][2], at[8 * kBatch + 1] = d[m][3];
    }
    __syncthreads();
    finish_tile<T, kTiles>(p, tile, sums, batch_from);
    __syncthreads();
  }
}

template <typename T, int kTiles>
cudaError_t launch_tiles(const DecodeLinearParams& p, int processors, cudaStream_t stream) {
  const int64_t tile_rows = p.w.gated ? 16 : 16 * kTiles;
  const int64_t tiles = (output_rows(p.w) + tile_rows - 1) / tile_rows;
  const int64_t blocks = tiles < processors ? tiles : processors;
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>((p.batch + kBatch - 1) / kBatch));
  return launch_dependent(decode_linear_rows_kernel<T, kTiles>, p, grid, kThreads,
                          Tile<kTiles>::kRing + Tile<kTiles>::kSums, stream);
}

/// The share of the processors' time that tiles of so many rows would fill.
double filled(int64_t rows, int64_t tile_rows, int processors) {
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  const int64_t rounds = (tiles + processors - 1) / processors;
  return static_cast<double>(tiles) / static_cast<double>(rounds * processors);
}

template <typename T>
cudaError_t launch_typed(const DecodeLinearParams& p, cudaStream_t stream) {
  int device = 0, processors = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status != cudaSuccess) return status;
  // Tiles of 32 rows read x half as often; of 16 rows they spread few rows more evenly.
  const int64_t rows = output_rows(p.w);
  if (p.w.gated || filled(rows, 32, processors) > 0.9 * filled(rows, 16, processors)) {
    return launch_tiles<T, 2>(p, processors, stream);
  }
  return launch_tiles<T, 1>(p, processors, stream);
}

}  // namespace

cudaError_t launch_decode_linear_rows(const DecodeLinearParams& p, cudaStream_t stream) {
  if (p.w.in % 8 != 0 || p.norm_weight != nullptr) return cudaErrorInvalidValue;
  switch (p.dtype) {
    case KernelDtype::Float16:
      return launch_typed<__half>(p, stream);
    case KernelDtype::BFloat16:
      return launch_typed<__nv_bfloat16>(p, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace headlens
