// headlens/kernels: the mass of rows on chosen keys, once their logsumexp is known.
#include "attention_stats_fold.cuh"
#include "attention_stats_parts.h"
#include "common/vector.cuh"

namespace headlens {
namespace {

constexpr int kWarps = 4, kTeam = 8, kMaxWidth = 256;  // a team of lanes makes one product

/// A team's share of a vector of d elements, pieces of kPiece in turn, 0 past the end.
template <typename T, int kPiece>
struct Share {
  static constexpr int kPieces = kMaxWidth / kPiece / kTeam;
  Pack<T, kPiece> pieces[kPieces];

  __device__ __forceinline__ Share(const T* from, int d) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = (static_cast<int>(threadIdx.x) % kTeam + i * kTeam) * kPiece;
      if (at < d) {
        pieces[i] = load_pack<T, kPiece>(from + at);
      } else {
        for (int n = 0; n < kPiece; ++n) pieces[i].values[n] = from_float<T>(0);
      }
    }
  }
};

template <typename T, int kPiece>
__device__ __forceinline__ float product(const Share<T, kPiece>& a, const T* b, int d) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < Share<T, kPiece>::kPieces; ++i) {
    const int at = (static_cast<int>(threadIdx.x) % kTeam + i * kTeam) * kPiece;
    if (at >= d) continue;
    const Pack<T, kPiece> other = load_pack<T, kPiece>(b + at);
#pragma unroll
    for (int n = 0; n < kPiece; ++n) {
      sum = fmaf(to_float(a.pieces[i].values[n]), to_float(other.values[n]), sum);
    }
  }
  for (int step = kTeam / 2; step > 0; step /= 2) sum += __shfl_xor_sync(kFull, sum, step);
  return sum;
}

/// One warp a row of a head; its four teams share the row's keys out between them.
template <typename T, int kPiece>
__global__ void __launch_bounds__(32 * kWarps)
    keys_kernel(const __grid_constant__ AttentionStatsParams p) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (index >= static_cast<int64_t>(p.batch) * p.head_count * p.row_count) return;
  const int lane = threadIdx.x % 32, team = lane / kTeam;
  const int64_t row = index % p.row_count, batch = index / p.row_count / p.head_count;
  const int out_head = static_cast<int>(index / p.row_count % p.head_count);
  const int64_t head = p.head_index ? p.head_index[out_head] : out_head;
  const int64_t query = p.rows ? p.rows[batch * p.row_count + row] : row;
  const int64_t last = query + p.keys - p.queries;
  int64_t low = p.first ? max(p.first[batch], int64_t{0}) : 0;
  if (p.window > 0) low = max(low, last - p.window + 1);
  const T* k = static_cast<const T*>(p.k) + batch * p.k_stride[0] +
               head / (p.heads / p.kv_heads) * p.k_stride[2];
  const Share<T, kPiece> q(static_cast<const T*>(p.q) + batch * p.q_stride[0] +
                               query * p.q_stride[1] + head * p.q_stride[2],
                           p.d_head);
  const float lse = p.lse[index];
  const auto mass = [&](int64_t key) {
    const bool sees = key >= low && key <= last;
    float score = product(q, k + (sees ? key : 0) * p.k_stride[1], p.d_head);
    if (p.softcap > 0) {
      cap_score(score, p.scale / p.softcap);
      score *= p.softcap;
    } else {
      score *= p.scale;
    }
    return sees ? exp2_fast((score - lse) * kLog2e) : 0.0f;
  };
  for (int first = 0; first < p.offset_count; first += 32 / kTeam) {
    const int i = first + team;
    const float found = mass(i < p.offset_count ? last - p.offsets[i] : -1);
    if (i < p.offset_count && lane % kTeam == 0) p.offset_mass[index * p.offset_count + i] = found;
  }
  const int64_t* keys = p.key_sets + (batch * p.row_count + row) * p.set_count * p.set_size;
  for (int set = 0; p.key_sets != nullptr && set < p.set_count; ++set) {
    float sum = 0;
    for (int first = 0; first < p.set_size; first += 32 / kTeam) {
      const int i = first + team;
      sum += mass(i < p.set_size ? keys[set * p.set_size + i] : -1);
    }
    for (int step = kTeam; step < 32; step *= 2) sum += __shfl_xor_sync(kFull, sum, step);
    if (lane == 0) p.set_mass[index * p.set_count + set] = sum;
  }
}

}  // namespace

cudaError_t launch_attention_stats_keys(const AttentionStatsParams& p, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(p.batch) * p.head_count * p.row_count;
  const unsigned blocks = static_cast<unsigned>((rows + kWarps - 1) / kWarps);
  if (blocks == 0) return cudaSuccess;
  return dispatch_dtype(p.dtype, [&](auto t) {
    using T = decltype(t);
    constexpr int kPiece = 16 / sizeof(T);
    if (rows_plan(p, false, nullptr).even) {
      keys_kernel<T, kPiece><<<blocks, 32 * kWarps, 0, stream>>>(p);
    } else {
      keys_kernel<T, 1><<<blocks, 32 * kWarps, 0, stream>>>(p);
    }
    return cudaGetLastError();
  });
}

}  // namespace headlens
