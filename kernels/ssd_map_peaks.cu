// headlens/kernels: largest entry of every row of Mamba-2 maps, and mass on segments of keys.
//
// As in ssd_map_sums.cu an entry is |C_i.B_j| v_j times a decay that the whole tile shares, so one
// product an entry and head is compared; a thread has four rows and one or four slots. A tile whose
// bound max |C B^T| max v is below what a row has already is passed over: exact, and cheap.
#include "ssd_map_segments.cuh"

namespace headlens {
namespace {

__device__ __forceinline__ void store_scores(const SsdBlock& t, const float (&scores)[8][4],
                                             bool diagonal, float (*to)[kRowStride],
                                             float* row_top) {
  float top[2] = {0, 0};
#pragma unroll
  for (int eight = 0; eight < 8; ++eight) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = t.warp * 16 + t.g + e / 2 * 8, key = eight * 8 + 2 * t.q + e % 2;
      const float score = diagonal && key > row ? 0.0f : fabsf(scores[eight][e]);
      to[key][row] = score;
      top[e / 2] = fmaxf(top[e / 2], score);
    }
  }
  for (int r = 0; r < 2; ++r) {
    const float largest = quad_max(top[r]);
    if (t.q == 0) row_top[t.warp * 16 + t.g + r * 8] = largest;
  }
}

template <bool kSegments, int kEights>
__device__ __forceinline__ void add_diagonal(const SsdBlock& t, const Shared<kEights>& s,
                                             Peaks<kEights>& peaks, SegmentRun<kEights>& run) {
  const int row0 = first_row<kEights>(t), slot0 = first_slot<kEights>(t);
  float2 inside[4][kEights];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    for (int h = 0; h < kEights; ++h) inside[r][h] = decay_inside(t, row0 + r, slot0 + h);
  }
  for (int key = 0; key < t.warp * 16 + 16; ++key) {
    if (kSegments && s.segments[key] != run.segment) run.close(t, s.segments[key]);
    float score[4];
    load_scores(&s.scores[key][row0], score);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int h = 0; h < kEights; ++h) {
        const float power = exp2_fast(decay_between(inside[r][h], s.own_keys[key][slot0 + h]));
        const float entry = score[r] > 0 ? score[r] * power : 0.0f;
        if (entry > peaks.top[r][h]) {
          peaks.top[r][h] = entry, peaks.where[r][h] = static_cast<int>(t.row0) + key;
        }
        if (kSegments) run.mass[r][h] += entry;
      }
    }
  }
}

template <int kEights>
__device__ __forceinline__ void find_peaks(const SsdBlock& t, const Shared<kEights>& s,
                                           const float (*weights)[kEights * 8], int64_t tile,
                                           const float (&decay)[4][kEights], const TileTerms& terms,
                                           Peaks<kEights>& peaks) {
  const int row0 = first_row<kEights>(t), slot0 = first_slot<kEights>(t);
  bool some = false;
  float score[4], weight[kEights];
  load_scores(&s.row_top[row0], score);
#pragma unroll
  for (int h = 0; h < kEights; ++h) {
    const float most = exp2_fast(kHalfTopExponent - terms.exponent[slot0 + h]);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      some = some || !(score[r] * most * decay[r][h] < peaks.top[r][h]);
    }
  }
  if (!some) return;
  // Floats that are not negative compare as integers do, and of those three at a time.
  int top[4][kEights], where[4][kEights];
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    for (int h = 0; h < kEights; ++h) top[r][h] = where[r][h] = 0;
  }
  for (int eighth = 0; eighth < 8; ++eighth) {
    int most[4][kEights];
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      const int key = eighth * 8 + pair * 2;
      float next_score[4], next_weight[kEights];
      load_scores(&s.scores[key][row0], score);
      load_scores(&s.scores[key + 1][row0], next_score);
      load_weights<kEights>(&weights[key][slot0], weight);
      load_weights<kEights>(&weights[key + 1][slot0], next_weight);
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int h = 0; h < kEights; ++h) {
          const int first = __float_as_int(score[r] * weight[h]);
          const int second = __float_as_int(next_score[r] * next_weight[h]);
          most[r][h] = pair == 0 ? max(first, second) : __vimax3_s32(most[r][h], first, second);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int h = 0; h < kEights; ++h) {
        if (most[r][h] > top[r][h]) top[r][h] = most[r][h], where[r][h] = eighth;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int h = 0; h < kEights; ++h) {
      const float entry = __int_as_float(top[r][h]) * decay[r][h];
      if (entry >= peaks.top[r][h]) {  // tiles come from the last to the first
        int key = where[r][h] * 8;
        while (__float_as_int(s.scores[key][row0 + r] * weights[key][slot0 + h]) != top[r][h] &&
               key < where[r][h] * 8 + 7) {
          ++key;
        }
        peaks.top[r][h] = entry, peaks.where[r][h] = static_cast<int>(tile) * kSsdTile + key;
      }
    }
  }
}

// Decay after the tile for each row and slot; true where the rest of the row cannot matter.
template <bool kSegments, int kEights>
__device__ __forceinline__ bool rest_negligible(const SsdBlock& t, const TileTerms& terms,
                                                const Peaks<kEights>& peaks,
                                                float (&decay)[4][kEights]) {
  bool small = true;
#pragma unroll
  for (int h = 0; h < kEights; ++h) {
    const int slot = first_slot<kEights>(t) + h;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      decay[r][h] = exp2_fast(peaks.inside[r][h] + terms.decay[slot]);
      const float bound = peaks.norm[r] * terms.B_reach[slot] * terms.reach[slot] * decay[r][h];
      small = small && (kSegments ? bound <= peaks.least[r][h] : bound < peaks.top[r][h]);
    }
  }
  return __syncthreads_and(small);
}

template <int kEights>
__device__ __forceinline__ void start_peaks(const SsdBlock& t, Peaks<kEights>& peaks) {
  const SsdMapInputs& in = t.p.terms.in;
  const int row0 = first_row<kEights>(t), slot0 = first_slot<kEights>(t);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    peaks.norm[r] = t.p.terms.C_norm[t.line() * t.p.terms.padded + t.row0 + row0 + r];
#pragma unroll
    for (int h = 0; h < kEights; ++h) {
      const int64_t head = t.head(t.slot0 + slot0 + h), row = t.row0 + row0 + r;
      const bool some = head >= 0 && row < in.pos;
      // Rows and slots that only fill up never ask for more keys.
      peaks.top[r][h] = some ? 0.0f : INFINITY, peaks.where[r][h] = 0;
      peaks.inside[r][h] = decay_inside(t, row0 + r, slot0 + h).x;
      peaks.least[r][h] =
          some ? kNegligible * t.p.row_mass[(t.b * in.heads + head) * in.pos + row] : INFINITY;
    }
  }
}

template <int kEights>
__device__ __forceinline__ void write_peaks(const SsdBlock& t, const Peaks<kEights>& peaks) {
  const SsdMapInputs& in = t.p.terms.in;
#pragma unroll
  for (int h = 0; h < kEights; ++h) {
    const int64_t head = t.head(t.slot0 + first_slot<kEights>(t) + h);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int64_t row = t.row0 + first_row<kEights>(t) + r;
      if (head < 0 || row >= in.pos) continue;
      const int64_t at = (t.b * in.heads + head) * in.pos + row;
      const float mass = t.p.row_mass[at];
      t.p.max[at] = mass > 0 ? peaks.top[r][h] / mass : mass;
      t.p.argmax[at] = peaks.where[r][h];
    }
  }
}

template <int kEights>
__device__ __forceinline__ void copy_weights(const SsdBlock& t, int64_t tile,
                                             float (*to)[kEights * 8]) {
  constexpr int kPieces = kEights * 8 / 4;
  const SsdMapTerms& m = t.p.terms;
  for (int at = threadIdx.x; at < kSsdTile * kPieces; at += kSsdThreads) {
    const int key = at / kPieces, piece = at % kPieces;
    const int64_t pos = tile * kSsdTile + key;
    copy_async_16(shared_address(&to[key][piece * 4]),
                  m.weight + (t.b * m.padded + pos) * t.slots + t.slot0 + piece * 4, true);
  }
}

template <bool kSegments, int kEights>
__global__ void __launch_bounds__(kSsdThreads, kSegments ? 2 : 3)
    ssd_map_peaks(const SsdMapStatsParams p) {
  extern __shared__ uint4 shared[];
  const SsdBlock t = ssd_block<kEights>(p);
  auto& s = *reinterpret_cast<Shared<kEights>*>(shared);
  auto* C = reinterpret_cast<__nv_bfloat16*>(&s + 1);
  __nv_bfloat16* B = C + kSsdTile * t.row_stride() * p.terms.planes;

  copy_tile(t, p.terms.C, t.tile, C);
  copy_tile(t, p.terms.B, t.tile, B);
  copy_async_commit();
  load_diagonal<kEights * 8>(t, s.own_keys);
  TileFetch(t, t.tile - 1, kEights * 8).store(t.tile - 1, kEights * 8, s.terms[0]);
  if (kSegments) load_segments(t, t.tile, s.segments, s.eighths);
  Peaks<kEights> peaks;
  start_peaks<kEights>(t, peaks);
  SegmentRun<kEights> run;
  run.clear();
  copy_async_wait<0>();
  __syncthreads();
  {
    float scores[8][4];
    multiply_tile(t, C, B, scores);
    store_scores(t, scores, true, s.scores, s.row_top);
  }
  __syncthreads();
  if (t.tile > 0) copy_tile(t, p.terms.B, t.tile - 1, B);
  add_diagonal<kSegments, kEights>(t, s, peaks, run);
  __syncthreads();
  if (t.tile > 0) copy_weights<kEights>(t, t.tile - 1, s.weights[1]);
  copy_async_commit();

  for (int64_t tile = t.tile - 1; tile >= 0; --tile) {
    const int turn = static_cast<int>(t.tile - tile) & 1;  // of what has two buffers
    const TileTerms& now = s.terms[turn ^ 1];
    float decay[4][kEights];
    copy_async_wait<0>();
    if (rest_negligible<kSegments, kEights>(t, now, peaks, decay)) break;  // a barrier
    const TileFetch next(t, tile - 1, kEights * 8);
    {
      float scores[8][4];
      multiply_tile(t, C, B, scores);
      store_scores(t, scores, false, s.scores, s.row_top);
    }
    next.store(tile - 1, kEights * 8, s.terms[turn]);
    if (kSegments) load_segments(t, tile, s.segments, s.eighths);
    __syncthreads();
    if (tile > 0) {
      copy_tile(t, p.terms.B, tile - 1, B);
      copy_weights<kEights>(t, tile - 1, s.weights[turn ^ 1]);
    }
    copy_async_commit();
    find_peaks<kEights>(t, s, s.weights[turn], tile, decay, now, peaks);
    if (kSegments) add_segments<kEights>(t, s, s.weights[turn], decay, run);
  }
  if (kSegments) run.close(t, -1);
  write_peaks<kEights>(t, peaks);
}

template <bool kSegments, int kEights>
cudaError_t launch(const SsdMapStatsParams& p, cudaStream_t stream) {
  const auto planes = static_cast<int>(2 * p.terms.planes * kSsdTile * (p.terms.states + 8) * 2);
  const int bytes = planes + static_cast<int>(sizeof(Shared<kEights>));
  const cudaError_t status = cudaFuncSetAttribute(
      ssd_map_peaks<kSegments, kEights>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) return status;
  ssd_map_peaks<kSegments, kEights><<<ssd_grid<kEights>(p), kSsdThreads, bytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_ssd_map_peaks(const SsdMapStatsParams& p, cudaStream_t stream) {
  const bool wide = ssd_wide(p);
  if (p.segments != nullptr) {
    return wide ? launch<true, 4>(p, stream) : launch<true, 1>(p, stream);
  }
  return wide ? launch<false, 4>(p, stream) : launch<false, 1>(p, stream);
}

}  // namespace headlens
