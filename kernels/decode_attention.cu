// headlens/kernels: attention of one position over a preallocated cache, its keys split over blocks.
#include <initializer_list>

#include "common/dependent_launch.cuh"
#include "common/vector.cuh"
#include "decode_attention.h"
#include "decode_score.cuh"

namespace headlens {
namespace {

// Half a multiprocessor's registers, as a projection's block: with one block of each kernel on every
// multiprocessor, the next two kernels are always there to read ahead.
constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kGroup = kDecodeHeadGroup;
constexpr int kMaxHead = 256, kMaxPairs = kMaxHead / 2;
constexpr int kUnroll = 3;     // keys of a lane group under way
constexpr int kLeastKeys = 32;  // of a split: fewer cost more to join than to read
constexpr int kMaxSplits = 64;

/// Floats of one head's part: z, the largest score, the mass, and up to 16 bytes.
__host__ __device__ constexpr int partial_width(int d) {
  return d + 4;
}

/// The softmax so far of one query head: the largest score, sum of 2^(s - largest), and sum of
/// 2^(s - largest) v.
struct Running {
  float most = kUnseen, mass = 0, z[8] = {};

  __device__ void rescale(float now) {
    const float factor = exp2f(most - now);
    mass *= factor;
    for (float& value : z) value *= factor;
    most = now;
  }
  /// Joins what the lane `offset` away has.
  __device__ void join(int offset) {
    const float other = __shfl_xor_sync(0xffffffffu, most, offset);
    rescale(fmaxf(most, other));
    mass += __shfl_xor_sync(0xffffffffu, mass, offset);
    for (float& value : z) value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
};

/// A block's share: which heads, which keys.
struct Share {
  int slot, row, kv, group, split, first_head, count;
  int64_t position, place, from, to;  // keys from .. to - 1
  int splits;                         // that have keys
};

__device__ Share share_of(const DecodeAttentionParams& p, int groups, int splits) {
  Share s;
  s.split = blockIdx.x % splits;
  s.slot = blockIdx.x / splits;
  s.row = s.slot / (groups * p.kv_heads);
  s.kv = s.slot / groups % p.kv_heads, s.group = s.slot % groups;
  const int per_kv = p.heads / p.kv_heads;
  s.first_head = s.kv * per_kv + s.group * kGroup;
  s.count = min(kGroup, per_kv - s.group * kGroup);
  s.position = *p.position;
  const int64_t padding = p.first != nullptr ? p.first[s.row] : 0;
  s.place = max(s.position - padding, int64_t{0});
  const int64_t low = first_seen(s.position, padding, p.window), keys = s.position + 1 - low;
  const int64_t span = max((keys + splits - 1) / splits, int64_t{kLeastKeys});
  s.splits = static_cast<int>((keys + span - 1) / span);
  s.from = low + s.split * span;
  s.to = min(s.from + span, s.position + 1);
  return s;
}

/// One head's vector: normed, turned, as floats of rounded values in `out`. A warp's work.
template <typename T>
__device__ void turn(const DecodeAttentionParams& p, const T* x, const void* norm,
                     const float (*table)[kMaxPairs], float* raw, float* out) {
  const int lane = threadIdx.x % 32;
  float squares = 0;
  for (int i = lane; i < p.d; i += 32) {
    raw[i] = to_float(x[i]);
    squares += raw[i] * raw[i];
  }
  if (norm != nullptr) {
    const float inverse = rsqrtf(warp_sum(squares) / static_cast<float>(p.d) + p.eps);
    for (int i = lane; i < p.d; i += 32) {
      const float weight = to_float(static_cast<const T*>(norm)[i]);
      raw[i] = rounded<T>(rounded<T>(raw[i] * inverse) * weight);
    }
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
  float newest[2][kMaxHead];              // k and v of this position
  float table[2][kMaxPairs];              // cosines and sines of this place
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
__device__ void prepare(const DecodeAttentionParams& p, const Share& s, Common& common) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* scratch = common.values[warp][0];
  if (warp < s.count) {
    const int head = s.first_head + warp;
    const T* q = static_cast<const T*>(p.q) + s.row * p.q_stride + head * p.d;
    turn<T>(p, q, p.q_norm, common.table, scratch, common.queries[warp]);
    if (p.q_turned != nullptr && s.split == 0) {
      T* to = static_cast<T*>(p.q_turned) + (static_cast<int64_t>(s.row) * p.heads + head) * p.d;
      for (int i = lane; i < p.d; i += 32) to[i] = from_float<T>(common.queries[warp][i]);
    }
  } else if (kGroup <= warp && warp < kGroup + 2 && s.split == s.splits - 1) {
    const bool is_key = warp == kGroup;
    const int64_t source = s.row * p.kv_stride + s.kv * p.d;
    const int64_t target =
        ((s.row * p.max_position + s.position) * p.kv_heads + s.kv) * static_cast<int64_t>(p.d);
    const T* x = static_cast<const T*>(is_key ? p.k : p.v) + source;
    T* cache = static_cast<T*>(is_key ? p.k_cache : p.v_cache) + target;
    float* newest = common.newest[is_key ? 0 : 1];
    if (is_key) {
      turn<T>(p, x, p.k_norm, common.table, scratch, newest);
    } else {
      for (int i = lane; i < p.d; i += 32) newest[i] = to_float(x[i]);
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
        scores[u] = reader.key(base, u) < s.to ? finish_score(raw, p.scale, p.softcap) * kLog2e
                                               : kUnseen;
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

/// The block's softmax from its warps' into `out`: for each head z [d], the largest score, the mass.
__device__ void join_warps(const DecodeAttentionParams& p, const Share& s,
                           Running (&running)[kGroup], int lanes,
                           float (*z)[kGroup][kMaxHead], float* out) {
  __shared__ float most[kWarps][kGroup], mass[kWarps][kGroup];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < kGroup; ++h) {
    for (int offset = lanes; offset < 32; offset *= 2) running[h].join(offset);
    if (lane == 0) most[warp][h] = running[h].most, mass[warp][h] = running[h].mass;
    if (lane >= lanes || lane * 8 >= p.d) continue;
    for (int n = 0; n < 8; ++n) z[warp][h][lane * 8 + n] = running[h].z[n];
  }
  __syncthreads();
  for (int h = warp; h < s.count; h += kWarps) {
    float top = kUnseen, sum = 0, factors[kWarps];
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, most[w][h]);
    for (int w = 0; w < kWarps; ++w) sum += mass[w][h] * (factors[w] = exp2f(most[w][h] - top));
    float* to = out + h * partial_width(p.d);
    for (int i = lane; i < p.d; i += 32) {
      float value = 0;
      for (int w = 0; w < kWarps; ++w) value += z[w][h][i] * factors[w];
      to[i] = value;
    }
    if (lane == 0) to[p.d] = top, to[p.d + 1] = sum;
  }
}

/// Eight splits' parts of four dimensions, on their way.
struct Parts {
  float4 values[8];

  __device__ void load(const float* from, int64_t step, int first, int splits) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float* at = from + (first + i) * step;
      values[i] = first + i < splits ? __ldcg(reinterpret_cast<const float4*>(at)) : float4{};
    }
  }
  __device__ void add_to(float4& sum, const float* factors) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum.x = fmaf(values[i].x, factors[i], sum.x), sum.y = fmaf(values[i].y, factors[i], sum.y);
      sum.z = fmaf(values[i].z, factors[i], sum.z), sum.w = fmaf(values[i].w, factors[i], sum.w);
    }
  }
};

/// What each split's part of a head counts for, into `factors` (0 past the last): returns the
/// logsumexp in bits. A warp's work.
__device__ float weigh_splits(const float* from, int64_t step, int splits, int d, float* factors) {
  const int lane = threadIdx.x % 32;
  float most[kMaxSplits / 32], mass[kMaxSplits / 32], top = kUnseen, sum = 0;
#pragma unroll
  for (int i = 0; i < kMaxSplits / 32; ++i) {
    const int split = i * 32 + lane;
    most[i] = split < splits ? __ldcg(from + split * step + d) : kUnseen;
    mass[i] = split < splits ? __ldcg(from + split * step + d + 1) : 0;
    top = fmaxf(top, most[i]);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, offset));
  }
#pragma unroll
  for (int i = 0; i < kMaxSplits / 32; ++i) sum += mass[i] * exp2f(most[i] - top);
  sum = warp_sum(sum);
#pragma unroll
  for (int i = 0; i < kMaxSplits / 32; ++i) {
    factors[i * 32 + lane] = i * 32 + lane < splits ? exp2f(most[i] - top) / sum : 0;
  }
  __syncwarp();
  return top + log2f(sum);
}

/// z of the block's heads from all splits, a warp a head, by the block that was last to finish.
template <typename T>
__device__ void join_splits(const DecodeAttentionParams& p, const Share& s, const float* partial) {
  __shared__ float factors[kGroup][kMaxSplits];
  const int h = threadIdx.x / 32, lane = threadIdx.x % 32, width = partial_width(p.d);
  if (h >= s.count) return;
  const float* from = partial + h * width;
  const int64_t step = static_cast<int64_t>(kGroup) * width;
  Parts parts;
  parts.load(from + min(lane * 4, p.d - 4), step, 0, s.splits);
  const float log_mass = weigh_splits(from, step, s.splits, p.d, factors[h]);
  const int64_t head = static_cast<int64_t>(s.row) * p.heads + s.first_head + h;
  T* z = static_cast<T*>(p.z) + head * p.d;
  for (int d = lane * 4; d < p.d; d += 128) {
    float4 sum = {0, 0, 0, 0};
    for (int i = 0; i < s.splits; i += 8) {
      if (i > 0 || d >= 128) parts.load(from + d, step, i, s.splits);
      parts.add_to(sum, factors[h] + i);
    }
    z[d] = from_float<T>(sum.x), z[d + 1] = from_float<T>(sum.y);
    z[d + 2] = from_float<T>(sum.z), z[d + 3] = from_float<T>(sum.w);
  }
  if (p.log_mass != nullptr && lane == 0) p.log_mass[head] = log_mass / kLog2e;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 2)
    decode_attention_kernel(const __grid_constant__ DecodeAttentionParams p) {
  extern __shared__ __align__(16) unsigned char shared[];
  Common& common = *reinterpret_cast<Common*>(shared);
  if (p.trigger == 1) allow_next_kernel();
  const int lanes = lanes_of(p.d), groups = (p.heads / p.kv_heads + kGroup - 1) / kGroup;
  const Share s = share_of(p, groups, p.splits);
  if (s.row >= p.batch) return wait_for_previous_kernel();
  // What is cached was written by steps before this one: only the newest key is still to come.
  Reader<T> reader(p, s, lanes);
  reader.load(s.from, s.position);
  set_up(p, s, common);
  __syncthreads();
  wait_for_previous_kernel();
  if (s.split >= s.splits) return;
  prepare<T>(p, s, common);
  Running running[kGroup];
  attend<T>(p, s, reader, common, running, lanes);
  if (p.trigger == 2) allow_next_kernel();
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
  const int splits = processors / slots;
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
  int device = 0, processors = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  }
  if (status != cudaSuccess) return status;
  // At least a block on each multiprocessor, so that the kernels around keep one on each.
  const dim3 grid(static_cast<unsigned>(blocks < processors ? processors : blocks));
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    return launch_dependent(decode_attention_kernel<T>, p, grid, kThreads, sizeof(Common), stream);
  });
}

}  // namespace headlens
