// headlens/kernels: attention of one position over a preallocated cache, its keys split over
// blocks.
#include <initializer_list>

#include "common/dependent_launch.cuh"
#include "common/vector.cuh"
#include "decode_attention.h"
#include "decode_join.cuh"
#include "decode_score.cuh"
#include "decode_share.cuh"

namespace headlens {
namespace {

/// A warp's part of prepare: one of the block's queries, the newest key or its value.
struct Vector {
  const void* from = nullptr;  // null: this warp has none
  bool is_query = false, is_key = false;
  float values[kMaxHead / 32];  // lane l has l, l + 32, ..

  template <typename T>
  __device__ void load(const DecodeAttentionParams& p, const Share& s) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t kv_offset = s.row * p.kv_stride + static_cast<int64_t>(s.kv) * p.d;
    is_query = warp < s.count, is_key = warp == kGroup;
    if (is_query) {
      const int64_t head = s.first_head + warp;
      from = static_cast<const T*>(p.q) + s.row * p.q_stride + head * p.d;
    } else if (warp == kGroup || warp == kGroup + 1) {
      from = static_cast<const T*>(is_key ? p.k : p.v) + kv_offset;
    }
    if (from == nullptr) return;
#pragma unroll
    for (int i = 0; i < kMaxHead / 32; ++i) {
      const int at = i * 32 + lane;
      values[i] = at < p.d ? to_float(static_cast<const T*>(from)[at]) : 0;
    }
  }
};

/// One head's vector normed and turned, as floats of rounded values in `out`. A warp's work.
template <typename T>
__device__ void turn(const DecodeAttentionParams& p, const Vector& x, const void* norm,
                     const float (*table)[kMaxPairs], float* raw, float* out) {
  const int lane = threadIdx.x % 32;
  float inverse = 0, squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxHead / 32; ++i) squares += x.values[i] * x.values[i];
  if (norm != nullptr) inverse = rsqrtf(warp_sum(squares) / static_cast<float>(p.d) + p.eps);
#pragma unroll
  for (int i = 0; i < kMaxHead / 32; ++i) {
    const int at = i * 32 + lane;
    if (at >= p.d) continue;
    raw[at] = x.values[i];
    if (norm == nullptr) continue;
    const float weight = to_float(static_cast<const T*>(norm)[at]);
    raw[at] = rounded<T>(rounded<T>(x.values[i] * inverse) * weight);
  }
  __syncwarp();
  for (int i = lane; i < p.d; i += 32) {
    const int pair = i < p.rotary_pairs ? i : i - p.rotary_pairs;
    if (p.cos == nullptr || pair >= p.rotary_pairs) {
      out[i] = raw[i];
      continue;
    }
    const float c = table[0][pair], s = table[1][pair];
    const float other = raw[i < p.rotary_pairs ? i + p.rotary_pairs : pair];
    out[i] = rounded<T>(i < p.rotary_pairs ? raw[i] * c - other * s : raw[i] * c + other * s);
  }
  __syncwarp();
}

/// What a block's threads share.
struct Common {
  float queries[kGroup][kMaxHead];
  float newest[2][kMaxHead];               // k and v of this position
  float table[2][kMaxPairs];               // cosines and sines of this place
  float values[kWarps][kGroup][kMaxHead];  // each warp's z; scratch before that
  bool last;
};

/// What does not depend on the kernel before: the table, and zeros where no query will be.
__device__ void set_up(const DecodeAttentionParams& p, const Share& s, Common& common) {
  for (int i = threadIdx.x; i < kGroup * kMaxHead; i += kThreads) {
    common.queries[i / kMaxHead][i % kMaxHead] = 0;
  }
  if (p.cos == nullptr) return;
  const int64_t from = s.row * p.table_stride + s.place * p.rotary_pairs;
  for (int i = threadIdx.x; i < p.rotary_pairs; i += kThreads) {
    common.table[0][i] = p.cos[from + i], common.table[1][i] = p.sin[from + i];
  }
}

/// q of the block's heads, a warp each; by the split that has the newest key, k and v of it, into
/// the cache too.
template <typename T>
__device__ void prepare(const DecodeAttentionParams& p, const Share& s, const Vector& x,
                        Common& common) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* scratch = common.values[warp][0];
  if (x.is_query) {
    turn<T>(p, x, p.q_norm, common.table, scratch, common.queries[warp]);
    if (p.q_turned != nullptr && s.split == 0) {
      const int64_t head = static_cast<int64_t>(s.row) * p.heads + s.first_head + warp;
      T* to = static_cast<T*>(p.q_turned) + head * p.d;
      for (int i = lane; i < p.d; i += 32) to[i] = from_float<T>(common.queries[warp][i]);
    }
  } else if (x.from != nullptr && s.split == s.splits - 1) {
    const int64_t target =
        ((s.row * p.max_position + s.position) * p.kv_heads + s.kv) * static_cast<int64_t>(p.d);
    T* cache = static_cast<T*>(x.is_key ? p.k_cache : p.v_cache) + target;
    float* newest = common.newest[x.is_key ? 0 : 1];
    if (x.is_key) {
      turn<T>(p, x, p.k_norm, common.table, scratch, newest);
    } else {
#pragma unroll
      for (int i = 0; i < kMaxHead / 32; ++i) newest[i * 32 + lane] = x.values[i];
      __syncwarp();
    }
    for (int i = lane; i < p.d; i += 32) cache[i] = from_float<T>(newest[i]);
  }
  __syncthreads();
}

/// What a lane reads of the cache: its eight dimensions of kUnroll keys.
template <typename T>
struct Reader {
  const T *k_cache, *v_cache;
  int64_t stride, to;
  int group, groups;
  bool active;
  Eight<T> k[kUnroll], v[kUnroll];

  __device__ Reader(const DecodeAttentionParams& p, const Share& s, int lanes) {
    const int dim = threadIdx.x % lanes * 8;
    stride = static_cast<int64_t>(p.kv_heads) * p.d, to = s.to;
    const int64_t from = s.row * p.max_position * stride + static_cast<int64_t>(s.kv) * p.d + dim;
    k_cache = static_cast<const T*>(p.k_cache) + from;
    v_cache = static_cast<const T*>(p.v_cache) + from;
    group = threadIdx.x / lanes, groups = kThreads / lanes, active = dim < p.d;
  }
  __device__ int64_t key(int64_t base, int u) const { return base + u * groups + group; }
  /// Keys from `base` on, all but `newest`, which may not be there yet.
  __device__ void load(int64_t base, int64_t newest) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int64_t at = key(base, u);
      if (active && at < to && at != newest) {
        k[u].load(k_cache + at * stride);
        v[u].load(v_cache + at * stride);
      } else {
        k[u].clear(), v[u].clear();
      }
    }
  }
  __device__ void take_newest(int64_t base, int64_t newest, const float (*values)[kMaxHead],
                              int dim) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (!active || key(base, u) != newest || newest >= to) continue;
      k[u].set(values[0] + dim);
      v[u].set(values[1] + dim);
    }
  }
};

/// This block's keys, in each group of `lanes` lanes a key at a time; the reader has the first.
template <typename T>
__device__ void attend(const DecodeAttentionParams& p, const Share& s, Reader<T>& reader,
                       const Common& common, Running (&running)[kGroup], int lanes) {
  const int dim = threadIdx.x % lanes * 8;
  const int64_t step = static_cast<int64_t>(reader.groups) * kUnroll;
  for (int64_t base = s.from; base < s.to; base += step) {
    if (base > s.from) reader.load(base, s.position);
    reader.take_newest(base, s.position, common.newest, dim);
#pragma unroll
    for (int h = 0; h < kGroup; ++h) {
      float scores[kUnroll], most = running[h].most;
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const float raw = group_sum(reader.k[u].dot(common.queries[h] + dim), lanes);
        scores[u] =
            reader.key(base, u) < s.to ? finish_score(raw, p.scale, p.softcap) * kLog2e : kUnseen;
        most = fmaxf(most, scores[u]);
      }
      running[h].rescale(most);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const float weight = scores[u] > kUnseen ? exp2f(scores[u] - most) : 0;
        running[h].mass += weight;
        reader.v[u].add_to(running[h].z, weight);
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeAttentionParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  Common& common = *reinterpret_cast<Common*>(shared);
  const int lanes = lanes_of(p.d), groups = (p.heads / p.kv_heads + kGroup - 1) / kGroup;
  wait_for_previous_kernel();
  // First all that can be on its way at once; a step's attention waits more than it reads.
  Share s = heads_of(p, groups, p.splits);
  Vector vector;
  vector.load<T>(p, s);
  find_keys(p, s, p.splits);
  if (s.split >= s.splits) return;
  Reader<T> reader(p, s, lanes);
  reader.load(s.from, s.position);
  set_up(p, s, common);
  __syncthreads();
  prepare<T>(p, s, vector, common);
  Running running[kGroup];
  attend<T>(p, s, reader, common, running, lanes);
  const int width = kGroup * partial_width(p.d);
  float* partial = p.partial + static_cast<int64_t>(s.slot) * p.splits * width;
  join_warps(p, s, running, lanes, common.values, partial + s.split * width);
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    common.last = atomicAdd(p.tickets + s.slot, 1) == s.splits - 1;
    __threadfence();
  }
  __syncthreads();
  if (!common.last) return;
  join_splits<T>(p, s, partial);
  if (threadIdx.x == 0) p.tickets[s.slot] = 0;
}

bool fits(const DecodeAttentionParams& p) {
  if (p.d % 8 != 0 || p.d > kMaxHead || p.heads % p.kv_heads != 0) return false;
  for (const void* pointer : {p.k_cache, p.v_cache}) {
    if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) return false;
  }
  return 2 * p.rotary_pairs <= p.d;
}

}  // namespace

int decode_attention_splits(int batch, int heads, int kv_heads) {
  int device = 0, processors = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const int slots = batch * kv_heads * decode_head_groups(heads, kv_heads);
  const int splits = 2 * processors / slots;  // two blocks fit on each
  return splits < 1 ? 1 : splits > kMaxSplits ? kMaxSplits : splits;
}

int64_t decode_attention_workspace(int batch, int heads, int kv_heads, int d) {
  return static_cast<int64_t>(batch) * kv_heads * decode_head_groups(heads, kv_heads) *
         decode_attention_splits(batch, heads, kv_heads) * kGroup * partial_width(d);
}

cudaError_t launch_decode_attention(const DecodeAttentionParams& params, cudaStream_t stream) {
  if (!fits(params)) return cudaErrorInvalidValue;
  DecodeAttentionParams p = params;
  p.splits = decode_attention_splits(p.batch, p.heads, p.kv_heads);
  const int blocks = p.batch * p.kv_heads * decode_head_groups(p.heads, p.kv_heads) * p.splits;
  const dim3 grid(static_cast<unsigned>(blocks));
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    return launch_dependent(decode_attention_kernel<T>, p, grid, kThreads, sizeof(Common), stream);
  });
}

}  // namespace headlens
