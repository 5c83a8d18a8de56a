// headlens/kernels: the figures of chosen rows, any dtype, over parts of the keys on every device.
#include "attention_stats_parts.h"
#include "attention_stats_rows.cuh"
#include "common/mma.cuh"
#include "common/vector.cuh"

namespace headlens {
namespace {

constexpr int kThreads = 128, kWarps = 4;

/// Tiles of kKeys keys against kRows rows: query heads that share their keys, then positions.
template <typename T, int kRowCount>
struct Shape {
  static constexpr int kRows = kRowCount, kKeys = sizeof(T) == 2 ? 64 : 32;
  static constexpr int kStages = sizeof(T) == 2 ? 3 : 2;
  static constexpr int kPiece = 16 / sizeof(T);  // elements copied at once
  static constexpr int kScoreStride = kKeys + 4;

  /// Elements from row to row of a tile: the odd piece keeps rows apart in the banks.
  static __host__ __device__ int stride(int d) { return (d + 15) / 16 * 16 + kPiece; }
  static __host__ __device__ size_t shared(const AttentionStatsParams& p) {
    const size_t rows = kRows, tile = stride(p.d_head) * sizeof(T);
    return tile * (kRows + kStages * kKeys) + rows * kScoreStride * 4 +
           rows * (sizeof(RowFigures) + 16) + kKeys * 4 +
           rows * 4 * ((p.segments ? p.num_segments : 0) + 2 * p.top_k);
  }
};

/// Where everything lies in shared memory.
template <typename S, typename T>
struct Memory {
  T *queries, *keys;
  float* scores;
  RowFigures* figures;
  int4* info;  // of a row: its place in the output (-1: none), head, first and last key seen
  int* ids;
  float *segments, *top_values;
  int* top_keys;
  int stride, segment_count, top_k;

  __device__ Memory(const AttentionStatsParams& p, unsigned char* raw)
      : stride(S::stride(p.d_head)),
        segment_count(p.segments ? p.num_segments : 0),
        top_k(p.top_k) {
    info = reinterpret_cast<int4*>(raw);
    figures = reinterpret_cast<RowFigures*>(info + S::kRows);
    queries = reinterpret_cast<T*>(figures + S::kRows);
    keys = queries + S::kRows * stride;
    scores = reinterpret_cast<float*>(keys + S::kStages * S::kKeys * stride);
    ids = reinterpret_cast<int*>(scores + S::kRows * S::kScoreStride);
    segments = reinterpret_cast<float*>(ids + S::kKeys);
    top_values = segments + S::kRows * segment_count;
    top_keys = reinterpret_cast<int*>(top_values + S::kRows * top_k);
  }
  __device__ T* key_tile(int stage) const { return keys + stage * S::kKeys * stride; }
  __device__ RowSlots slots(int row) const {
    return {figures + row, segments + row * segment_count, top_values + row * top_k,
            top_keys + row * top_k};
  }
};

/// Copies `rows` rows of d elements; row_of(r) is where row r begins, null for zeros.
template <typename S, typename T, typename F>
__device__ __forceinline__ void copy_rows(T* to, int stride, int rows, int d, bool even,
                                          F&& row_of) {
  const int pieces = (d + 15) / 16 * 16 / S::kPiece;
  for (int i = threadIdx.x; i < rows * pieces; i += kThreads) {
    const int row = i / pieces, at = i % pieces * S::kPiece;
    const T* from = row_of(row);
    T* place = to + row * stride + at;
    if (even) {
      const bool there = from != nullptr && at < d;
      copy_async_16(shared_address(place), there ? from + at : to, there);
      continue;
    }
    for (int n = 0; n < S::kPiece; ++n) {
      place[n] = from != nullptr && at + n < d ? from[at + n] : from_float<T>(0);
    }
  }
}

/// Raw products of the block's rows with a tile of keys, half precision: 16 rows and 16 keys at a
/// time, shared out between the warps.
template <typename S, typename T>
__device__ __forceinline__ void multiply(const Memory<S, T>& m, const T* keys, int d) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  constexpr int kPairs = S::kRows == 16 ? S::kKeys / 16 / kWarps : S::kKeys / 16;
  const int row = S::kRows == 16 ? 0 : 16 * warp, key = S::kRows == 16 ? 16 * kPairs * warp : 0;
  float acc[kPairs][2][4] = {};
  const uint32_t a_at = shared_address(m.queries + (row + lane % 16) * m.stride + lane / 16 * 8);
  const uint32_t b_at =
      shared_address(keys + (key + lane / 16 * 8 + lane % 8) * m.stride + lane / 8 % 2 * 8);
  for (int at = 0; at < d; at += 16) {
    uint32_t a[4], b[4];
    load_matrices(a, a_at + at * 2);
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) {
      load_matrices(b, b_at + (pair * 16 * m.stride + at) * 2);
      mma<T>(acc[pair][0], a, b[0], b[1]);
      mma<T>(acc[pair][1], a, b[2], b[3]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPairs * 4; ++i) {
    const float* two = &acc[i / 4][i / 2 % 2][i % 2 * 2];
    float* to =
        m.scores + (row + lane / 4 + i % 2 * 8) * S::kScoreStride + key + i / 2 * 8 + lane % 4 * 2;
    *reinterpret_cast<float2*>(to) = make_float2(two[0], two[1]);
  }
}

/// The same in float32 arithmetic: 4 rows and a few keys a thread.
template <typename S>
__device__ __forceinline__ void multiply(const Memory<S, float>& m, const float* keys, int d) {
  constexpr int kLanes = kThreads / (S::kRows / 4), kPer = S::kKeys / kLanes;
  const int row = threadIdx.x / kLanes * 4, key = threadIdx.x % kLanes;
  float acc[4][kPer] = {};
  for (int at = 0; at < d; at += 4) {
    float4 b[kPer];
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      b[j] = *reinterpret_cast<const float4*>(keys + (key + kLanes * j) * m.stride + at);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 a = *reinterpret_cast<const float4*>(m.queries + (row + i) * m.stride + at);
#pragma unroll
      for (int j = 0; j < kPer; ++j) {
        acc[i][j] = fmaf(a.x, b[j].x, acc[i][j]);
        acc[i][j] = fmaf(a.y, b[j].y, acc[i][j]);
        acc[i][j] = fmaf(a.z, b[j].z, acc[i][j]);
        acc[i][j] = fmaf(a.w, b[j].w, acc[i][j]);
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < kPer; ++j) {
      m.scores[(row + i) * S::kScoreStride + key + kLanes * j] = acc[i][j];
    }
  }
}

/// Which rows a block has: `group` heads that share keys (one, where heads are chosen), position by
/// position. Blocks run over batch, groups and positions; splits over the keys.
template <typename S>
__device__ void find_rows(const AttentionStatsParams& p, const RowsPlan& plan, int4* info,
                          int& batch, int& kv_head) {
  const int maps = p.head_count / plan.group;
  const int map = blockIdx.x / plan.row_blocks, first = blockIdx.x % plan.row_blocks * S::kRows;
  batch = map / maps;
  const auto head_of = [&](int out) {
    return p.head_index ? static_cast<int>(p.head_index[out]) : out;
  };
  kv_head = head_of(map % maps * plan.group) / (p.heads / p.kv_heads);
  const int i = threadIdx.x;
  if (i >= S::kRows) return;
  const int64_t place = static_cast<int64_t>(first) + i, row = place / plan.group;
  const int out_head = map % maps * plan.group + static_cast<int>(place % plan.group);
  if (row >= p.row_count) {
    info[i] = make_int4(-1, 0, 1, 0);
    return;
  }
  const int query = p.rows
                        ? static_cast<int>(p.rows[static_cast<int64_t>(batch) * p.row_count + row])
                        : static_cast<int>(row);
  const int last = query + p.keys - p.queries;
  int low = p.first ? static_cast<int>(min(max(p.first[batch], int64_t{0}), int64_t{p.keys})) : 0;
  if (p.window > 0) low = max(low, last - p.window + 1);
  info[i] = make_int4(static_cast<int>(row) * p.heads + head_of(out_head), query, low, last);
}

template <typename T, int kRowCount>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const __grid_constant__ AttentionStatsParams p,
                const __grid_constant__ RowsPlan plan) {
  using S = Shape<T, kRowCount>;
  extern __shared__ __align__(16) unsigned char raw[];
  const Memory<S, T> m(p, raw);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int batch, kv_head;
  find_rows<S>(p, plan, m.info, batch, kv_head);
  for (int row = warp; row < S::kRows; row += kWarps) clear_row(p, m.slots(row));
  __syncthreads();
  int low = p.keys, high = -1;
  for (int i = 0; i < S::kRows; ++i) {
    if (m.info[i].x < 0 || m.info[i].w < m.info[i].z) continue;
    low = min(low, m.info[i].z);
    high = max(high, m.info[i].w);
  }
  const int first_tile = low / S::kKeys, tiles = high < low ? 0 : high / S::kKeys + 1 - first_tile;
  const int each = (tiles + plan.splits - 1) / plan.splits;
  const int from = first_tile + blockIdx.y * each, to = min(from + each, first_tile + tiles);

  const T* q = static_cast<const T*>(p.q) + batch * p.q_stride[0];
  const T* k = static_cast<const T*>(p.k) + batch * p.k_stride[0] + kv_head * p.k_stride[2];
  copy_rows<S>(m.queries, m.stride, S::kRows, p.d_head, plan.even, [&](int i) -> const T* {
    const int4 row = m.info[i];
    if (row.x < 0) return nullptr;
    return q + row.y * p.q_stride[1] + row.x % p.heads * p.q_stride[2];
  });
  const auto load = [&](int tile) {
    if (tile < to) {
      copy_rows<S>(m.key_tile((tile - from) % S::kStages), m.stride, S::kKeys, p.d_head, plan.even,
                   [&](int i) -> const T* {
                     const int key = tile * S::kKeys + i;
                     return key <= high ? k + key * p.k_stride[1] : nullptr;
                   });
    }
    copy_async_commit();
  };
  for (int i = 0; i < S::kStages - 1; ++i) load(from + i);

  const float slope = p.softcap > 0 ? p.scale / p.softcap : 0.0f;
  const float factor = (p.softcap > 0 ? p.softcap : p.scale) * kLog2e;
  const int64_t* ids = p.segments ? p.segments + batch * p.segment_stride : nullptr;
  for (int tile = from; tile < to; ++tile) {
    const int first_key = tile * S::kKeys;
    copy_async_wait<S::kStages - 2>();
    __syncthreads();  // the tile is there, and the last one's scores have been read
    load(tile + S::kStages - 1);
    multiply(m, m.key_tile((tile - from) % S::kStages), p.d_head);
    if (ids != nullptr && threadIdx.x < S::kKeys) {
      const int key = first_key + threadIdx.x;
      const int64_t id = key <= high ? ids[key] : kNoSegment;
      m.ids[threadIdx.x] = id >= 0 && id < p.num_segments ? static_cast<int>(id) : kNoSegment;
    }
    __syncthreads();
    for (int row = warp; row < S::kRows; row += kWarps) {
      const int4 info = m.info[row];
      if (info.x < 0 || info.z >= first_key + S::kKeys || info.w < first_key) continue;
      float s[S::kKeys / 32];
      for (int i = 0; i < S::kKeys / 32; ++i) {
        const int key = first_key + lane + 32 * i;
        s[i] = m.scores[row * S::kScoreStride + lane + 32 * i];
        if (p.softcap > 0) cap_score(s[i], slope);
        s[i] = key >= info.z && key <= info.w ? s[i] * factor : -INFINITY;
      }
      fold_row(s, first_key, m.ids, p, m.slots(row));
    }
  }
  __syncthreads();
  const int out_first = blockIdx.x / plan.row_blocks % (p.head_count / plan.group) * plan.group;
  for (int row = warp; row < S::kRows; row += kWarps) {
    const int place = blockIdx.x % plan.row_blocks * S::kRows + row;
    if (m.info[row].x < 0) continue;
    const int64_t index =
        (static_cast<int64_t>(batch) * p.head_count + out_first + place % plan.group) *
            p.row_count +
        place / plan.group;
    if (plan.splits == 1) {
      write_row(p, plan.figures, m.slots(row), index);
    } else {
      copy_row(p, m.slots(row), part_of(p, plan, blockIdx.y, index));
    }
  }
}

/// Joins the parts of a row, one warp a row.
__global__ void __launch_bounds__(kThreads)
    join_kernel(const __grid_constant__ AttentionStatsParams p,
                const __grid_constant__ RowsPlan plan) {
  __shared__ RowFigures figures[kWarps];
  __shared__ float segments[kWarps][256], top_values[kWarps][16];
  __shared__ int top_keys[kWarps][16];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + warp;
  if (index >= plan.total) return;
  const RowSlots row{figures + warp, segments[warp], top_values[warp], top_keys[warp]};
  RowFigures all{-INFINITY, 0, 0, 0};
  TopList list;
  for (int split = 0; split < plan.splits; ++split) {
    const RowSlots part = part_of(p, plan, split, index);
    all = joined(all, *part.figures);
    if (p.top_k > 0) {
      list.offer(lane < p.top_k ? part.top_values[lane] : -INFINITY,
                 lane < p.top_k ? part.top_keys[lane] : -1, p.top_k);
    }
  }
  if (lane == 0) *row.figures = all;
  if (lane < p.top_k) {
    row.top_values[lane] = list.value;
    row.top_keys[lane] = list.key;
  }
  for (int i = lane; p.segments != nullptr && i < p.num_segments; i += 32) {
    float sum = 0;
    for (int split = 0; split < plan.splits; ++split) {
      const RowSlots part = part_of(p, plan, split, index);
      const float weight = part.figures->sum > 0 ? exp2_fast(part.figures->top - all.top) : 0.0f;
      sum = fmaf(part.segments[i], weight, sum);
    }
    row.segments[i] = sum;
  }
  __syncwarp();
  write_row(p, plan.figures, row, index);
}

template <typename T, int kRows>
cudaError_t launch(const AttentionStatsParams& p, const RowsPlan& plan, cudaStream_t stream) {
  using S = Shape<T, kRows>;
  const size_t shared = S::shared(p);
  const cudaError_t status = cudaFuncSetAttribute(
      rows_kernel<T, kRows>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (status != cudaSuccess) return status;
  const dim3 blocks(plan.blocks, plan.splits);
  rows_kernel<T, kRows><<<blocks, kThreads, shared, stream>>>(p, plan);
  if (plan.splits > 1) {
    join_kernel<<<static_cast<unsigned>((plan.total + kWarps - 1) / kWarps), kThreads, 0, stream>>>(
        p, plan);
  }
  return cudaGetLastError();
}

}  // namespace

RowsPlan rows_plan(const AttentionStatsParams& p, bool figures, void* workspace) {
  int device = 0, processors = 1, room = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  RowsPlan plan{};
  plan.figures = figures;
  plan.workspace = static_cast<unsigned char*>(workspace);
  plan.total = static_cast<int64_t>(p.batch) * p.head_count * p.row_count;
  plan.group = p.head_index ? 1 : p.heads / p.kv_heads;
  const int64_t rows = static_cast<int64_t>(p.row_count) * plan.group;
  const size_t wide =
      p.dtype == KernelDtype::Float32 ? Shape<float, 64>::shared(p) : Shape<__half, 64>::shared(p);
  plan.block_rows = rows > 32 && wide <= static_cast<size_t>(room) ? 64 : 16;
  plan.row_blocks = static_cast<int>((rows + plan.block_rows - 1) / plan.block_rows);
  plan.blocks = plan.row_blocks * p.batch * (p.head_count / plan.group);
  // Enough blocks to fill the device, none of them under four tiles of keys.
  const int wanted = plan.blocks > 0 ? 3 * processors / plan.blocks : 1,
            most = (p.keys + 255) / 256;
  plan.splits = wanted < 1 ? 1 : wanted > most ? most : wanted;
  const int size = p.dtype == KernelDtype::Float32 ? 4 : 2, piece = 16 / size;
  plan.even = reinterpret_cast<uintptr_t>(p.q) % 16 == 0 &&
              reinterpret_cast<uintptr_t>(p.k) % 16 == 0 && p.d_head % piece == 0;
  for (int i = 0; i < 3; ++i) {
    plan.even = plan.even && p.q_stride[i] % piece == 0 && p.k_stride[i] % piece == 0;
  }
  return plan;
}

size_t rows_workspace(const AttentionStatsParams& p) {
  const RowsPlan plan = rows_plan(p, true, nullptr);
  if (plan.splits == 1) return 0;
  return static_cast<size_t>(plan.splits) * plan.total * part_bytes(p);
}

cudaError_t launch_attention_stats_rows(const AttentionStatsParams& p, const RowsPlan& plan,
                                        cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    return plan.block_rows == 64 ? launch<T, 64>(p, plan, stream) : launch<T, 16>(p, plan, stream);
  });
}

}  // namespace headlens
