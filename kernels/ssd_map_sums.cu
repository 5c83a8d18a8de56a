// headlens/kernels: mass and entropy of every row of Mamba-2 maps, by matrix products.
//
// For keys j of a tile that ends at e, before row i:
//   |M_ij| = |C_i.B_j| v_j D,  v_j = dt_j exp(sum_{k=j+1..e} log_decay_k) per head,
// D the decay from e to i. So the sums over j of |M| and of |M| log2 |M| of all heads are products
// of |C B^T| and |C B^T| log2 |C B^T| with v and v log2 v: tensor cores take them, the factors
// scaled and split in two halves. No power or logarithm is left that costs one per entry and head.
#include "ssd_map_tile.cuh"

namespace headlens {
namespace {

// Of the rows g and g + 8 of a warp and the slots 2q, 2q + 1 of each eight.
template <int kEights>
using Figures = float[kEights][4];

constexpr int kScoreStride = kSsdTile + 1;

/// |scores| into shared memory, [row][key], 0 for keys after the row.
__device__ __forceinline__ void store_scores(const SsdBlock& t, const float (&scores)[8][4],
                                             float* to) {
#pragma unroll
  for (int eight = 0; eight < 8; ++eight) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = t.warp * 16 + t.g + e / 2 * 8, key = eight * 8 + 2 * t.q + e % 2;
      to[row * kScoreStride + key] = key > row ? 0.0f : fabsf(scores[eight][e]);
    }
  }
}

template <int kEights>
constexpr int kWeights = kEights * 4 * 32 * 2;  // pieces of 16 bytes of a tile

template <int kEights>
__device__ __forceinline__ void copy_weights(const SsdBlock& t, int64_t tile, uint4* to) {
  const auto* from = static_cast<const uint4*>(t.p.terms.fragments) +
                     ((t.b * t.tiles() + tile) * (t.slots / 8) + t.slot0 / 8) * (4 * 32 * 2);
  for (int at = threadIdx.x; at < kWeights<kEights>; at += kSsdThreads) {
    copy_async_16(shared_address(to + at), from + at, true);
  }
}

// The tile of the rows' own keys, entry by entry.
template <int kEights>
__device__ __forceinline__ void add_diagonal(const SsdBlock& t, const float* scores,
                                             const float2 (*keys)[kEights * 8],
                                             Figures<kEights>& mass, Figures<kEights>& log_mass) {
  float2 row[kEights][4];
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
    for (int e = 0; e < 4; ++e) {
      row[k][e] = decay_inside(t, t.warp * 16 + t.g + e / 2 * 8, k * 8 + 2 * t.q + e % 2);
    }
  }
  const float* first = scores + (t.warp * 16 + t.g) * kScoreStride;
  for (int key = 0; key < t.warp * 16 + 16; ++key) {
    const float score[2] = {first[key], first[8 * kScoreStride + key]};
    const float log_score[2] = {log2_fast(score[0]), log2_fast(score[1])};
#pragma unroll
    for (int k = 0; k < kEights; ++k) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float exponent = decay_between(row[k][e], keys[key][k * 8 + 2 * t.q + e % 2]);
        const float entry = score[e / 2] * exp2_fast(exponent);
        if (!(score[e / 2] < kLeast || entry < kLeast)) {  // NaN goes on
          mass[k][e] += entry;
          log_mass[k][e] = fmaf(entry, log_score[e / 2] + exponent, log_mass[k][e]);
        }
      }
    }
  }
}

// |scores| scaled to halves: exponent of rows g and g + 8.
__device__ __forceinline__ void scale_scores(float (&scores)[8][4], int (&exponent)[2]) {
  float largest[2] = {0, 0};
#pragma unroll
  for (int eight = 0; eight < 8; ++eight) {
    for (int e = 0; e < 4; ++e) {
      largest[e / 2] = fmaxf(largest[e / 2], fabsf(scores[eight][e]));
    }
  }
  for (int r = 0; r < 2; ++r) exponent[r] = half_scale_exponent(quad_max(largest[r]));
  const float scale[2] = {power_of_two(exponent[0]), power_of_two(exponent[1])};
#pragma unroll
  for (int eight = 0; eight < 8; ++eight) {
    for (int e = 0; e < 4; ++e) scores[eight][e] = fabsf(scores[eight][e]) * scale[e / 2];
  }
}

// c and c log2(c / 2^14) of 16 keys, as the first factors.
struct ScoreFactors {
  uint32_t high[4], low[4], log_high[4], log_low[4];
};
__device__ __forceinline__ ScoreFactors score_factors(const float (&first)[4],
                                                      const float (&second)[4]) {
  ScoreFactors f;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const float a = r < 2 ? first[2 * r] : second[2 * r - 4];
    const float b = r < 2 ? first[2 * r + 1] : second[2 * r - 3];
    const HalfPair value = split_halves(a, b);
    const HalfPair log_value = split_halves(a * (log2_fast(a + kLeast) - kHalfTopExponent),
                                            b * (log2_fast(b + kLeast) - kHalfTopExponent));
    f.high[r] = value.high, f.low[r] = value.low;
    f.log_high[r] = log_value.high, f.log_low[r] = log_value.low;
  }
  return f;
}

template <int kEights>
__device__ __forceinline__ void add_tile(const SsdBlock& t, float (&scores)[8][4],
                                         const uint4* weights, const TileTerms& terms,
                                         const Figures<kEights>& inside, Figures<kEights>& mass,
                                         Figures<kEights>& log_mass) {
  int exponent[2];
  scale_scores(scores, exponent);
  Figures<kEights> sum, log_sum;
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
    for (int e = 0; e < 4; ++e) sum[k][e] = log_sum[k][e] = 0;
  }
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const ScoreFactors f = score_factors(scores[2 * step], scores[2 * step + 1]);
#pragma unroll
    for (int k = 0; k < kEights; ++k) {
      const uint4* from = weights + ((k * 4 + step) * 32 + t.lane) * 2;
      const uint4 weight = from[0], log_weight = from[1];
      mma_split(sum[k], f.high, f.low, weight);
      mma_split(log_sum[k], f.log_high, f.log_low, weight);
      mma_split(log_sum[k], f.high, f.low, log_weight);
    }
  }
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int slot = k * 8 + 2 * t.q + e % 2;
      const float decay = inside[k][e] + terms.decay[slot];
      const int scaled = exponent[e / 2] + static_cast<int>(terms.exponent[slot]);
      // Two factors, as the power of both might not be a float.
      const float size =
          exp2_fast(decay) * power_of_two(-exponent[e / 2]) * exp2_fast(-terms.exponent[slot]);
      mass[k][e] = fmaf(sum[k][e], size, mass[k][e]);
      const float shift = decay + static_cast<float>(2 * kHalfTopExponent - scaled);
      log_mass[k][e] = fmaf(size, fmaf(shift, sum[k][e], log_sum[k][e]), log_mass[k][e]);
    }
  }
}

// True where all that the tile and those before it hold is below kNegligible of each row's mass.
template <int kEights>
__device__ __forceinline__ bool rest_negligible(const SsdBlock& t, const TileTerms& terms,
                                                const float (&norm)[2],
                                                const Figures<kEights>& inside,
                                                const Figures<kEights>& mass) {
  bool small = true;
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int slot = k * 8 + 2 * t.q + e % 2;
      const float bound = norm[e / 2] * terms.B_reach[slot] * terms.reach[slot] *
                          exp2_fast(inside[k][e] + terms.decay[slot]);
      small = small && bound <= kNegligible * mass[k][e];
    }
  }
  return __syncthreads_and(small);
}

template <int kEights>
__device__ __forceinline__ void write_figures(const SsdBlock& t, const Figures<kEights>& mass,
                                              const Figures<kEights>& log_mass) {
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t row = t.row0 + t.warp * 16 + t.g + e / 2 * 8;
      const int64_t head = t.head(t.slot0 + k * 8 + 2 * t.q + e % 2);
      if (row >= t.p.terms.in.pos || head < 0) continue;
      const int64_t at = (t.b * t.p.terms.in.heads + head) * t.p.terms.in.pos + row;
      const float sum = mass[k][e];
      const float entropy = kLn2 * (log2_fast(sum) - log_mass[k][e] / sum);
      t.p.row_mass[at] = sum;
      t.p.entropy[at] = sum > 0 ? fmaxf(entropy, 0.0f) : sum;
    }
  }
}

struct Layout {
  int plane;   // elements of C, and of B
  int middle;  // bytes for B or, at first, the diagonal's scores
};
__host__ __device__ inline Layout layout_of(const SsdMapTerms& t) {
  const int plane = kSsdTile * (static_cast<int>(t.states) + 8) * static_cast<int>(t.planes);
  const int scores = kSsdTile * kScoreStride * 4;
  return {plane, 2 * plane > scores ? 2 * plane : scores};
}

template <int kEights>
__global__ void __launch_bounds__(kSsdThreads, 3) ssd_map_sums(const SsdMapStatsParams p) {
  extern __shared__ uint4 shared[];
  __shared__ TileTerms terms[2];
  const SsdBlock t = ssd_block<kEights>(p);
  const Layout layout = layout_of(p.terms);
  auto* C = reinterpret_cast<__nv_bfloat16*>(shared);
  __nv_bfloat16* B = C + layout.plane;
  auto* own_scores = reinterpret_cast<float*>(B);
  auto* weights = reinterpret_cast<uint4*>(reinterpret_cast<char*>(B) + layout.middle);
  auto* own_keys = reinterpret_cast<float2(*)[kEights * 8]>(weights);

  copy_tile(t, p.terms.C, t.tile, C);
  copy_tile(t, p.terms.B, t.tile, B);
  copy_async_commit();
  if (t.tile > 0) copy_weights<kEights>(t, t.tile - 1, weights + kWeights<kEights>);
  copy_async_commit();
  load_diagonal<kEights * 8>(t, own_keys);
  TileFetch(t, t.tile - 1, kEights * 8).store(t.tile - 1, kEights * 8, terms[0]);
  copy_async_wait<1>();
  __syncthreads();
  Figures<kEights> mass, log_mass, inside;
  float scores[8][4];
  multiply_tile(t, C, B, scores);
  __syncthreads();
  store_scores(t, scores, own_scores);
  __syncwarp();
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
    for (int e = 0; e < 4; ++e) mass[k][e] = log_mass[k][e] = 0;
  }
  add_diagonal<kEights>(t, own_scores, own_keys, mass, log_mass);
  __syncthreads();
  if (t.tile > 0) copy_tile(t, p.terms.B, t.tile - 1, B);
  copy_async_commit();
#pragma unroll
  for (int k = 0; k < kEights; ++k) {
    for (int e = 0; e < 4; ++e) {
      inside[k][e] = decay_inside(t, t.warp * 16 + t.g + e / 2 * 8, k * 8 + 2 * t.q + e % 2).x;
    }
  }
  const float* norms = p.terms.C_norm + t.line() * p.terms.padded + t.row0 + t.warp * 16 + t.g;
  const float norm[2] = {norms[0], norms[8]};

  for (int64_t tile = t.tile - 1; tile >= 0; --tile) {
    const int turn = static_cast<int>(t.tile - tile) & 1;  // of what has two buffers
    const TileTerms& now = terms[turn ^ 1];
    copy_async_wait<0>();
    if (rest_negligible<kEights>(t, now, norm, inside, mass)) break;  // a barrier
    const TileFetch next(t, tile - 1, kEights * 8);
    multiply_tile(t, C, B, scores);
    next.store(tile - 1, kEights * 8, terms[turn]);
    __syncthreads();
    if (tile > 0) {
      copy_tile(t, p.terms.B, tile - 1, B);
      copy_weights<kEights>(t, tile - 1, weights + (turn ^ 1) * kWeights<kEights>);
    }
    copy_async_commit();
    add_tile<kEights>(t, scores, weights + turn * kWeights<kEights>, now, inside, mass, log_mass);
  }
  write_figures<kEights>(t, mass, log_mass);
}

template <int kEights>
cudaError_t launch(const SsdMapStatsParams& p, cudaStream_t stream) {
  const Layout layout = layout_of(p.terms);
  const int bytes = 2 * layout.plane + layout.middle + 2 * kWeights<kEights> * 16;
  static_assert(sizeof(float2[kSsdTile][kEights * 8]) == kWeights<kEights> * 16);
  const cudaError_t status = cudaFuncSetAttribute(
      ssd_map_sums<kEights>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  ssd_map_sums<kEights><<<ssd_grid<kEights>(p), kSsdThreads, bytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

bool ssd_map_stats_fits(int64_t planes, int64_t states) {
  int device = 0, most = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  constexpr int64_t kBesides = 26 << 10;  // weights and scores of a narrow block
  return 2 * planes * kSsdTile * (states + 8) * 2 + kBesides <= most;
}

cudaError_t launch_ssd_map_sums(const SsdMapStatsParams& p, cudaStream_t stream) {
  if (ssd_wide(p)) return launch<4>(p, stream);
  return launch<1>(p, stream);
}

}  // namespace headlens
