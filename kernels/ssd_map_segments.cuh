// headlens/kernels: four rows by one or four slots a thread of a Mamba-2 map's tile, and their mass
// on segments of keys.
#pragma once

#include "ssd_map_tile.cuh"

namespace headlens {

constexpr int kMixed = -2;
constexpr int kRowStride =
    kSsdTile + 4;  // of scores, [key][row]: a warp's stores meet no bank twice

template <int kEights>
struct Shared {
  float scores[kSsdTile][kRowStride];
  union {
    float weights[2][kSsdTile][kEights * 8];
    float2 own_keys[kSsdTile][kEights * 8];
  };
  float row_top[kSsdTile];
  TileTerms terms[2];
  int segments[kSsdTile], eighths[kSsdTile / 8];  // kMixed: not all of one
};

// A thread's rows 4 .. of the block, slots of the run.
template <int kEights>
struct Peaks {
  float inside[4][kEights], top[4][kEights], norm[4];
  int where[4][kEights];
  float least[4][kEights];  // with segments: what is negligible
};

template <int kEights>
__device__ __forceinline__ int first_row(const SsdBlock& t) {
  return t.warp * 16 + t.lane / 8 * 4;
}
template <int kEights>
__device__ __forceinline__ int first_slot(const SsdBlock& t) {
  return t.lane % 8 * kEights;
}

__device__ __forceinline__ void load_scores(const float* from, float (&to)[4]) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
template <int kEights>
__device__ __forceinline__ void load_weights(const float* from, float (&to)[kEights]) {
  const auto pack = load_pack<float, kEights>(from);
  for (int h = 0; h < kEights; ++h) to[h] = pack.values[h];
}

// Mass on the segment that the keys are in at present.
template <int kEights>
struct SegmentRun {
  float mass[4][kEights];
  int segment = -1;

  __device__ __forceinline__ void clear() {
    for (int r = 0; r < 4; ++r) {
      for (int h = 0; h < kEights; ++h) mass[r][h] = 0;
    }
  }
  // Each row and head belongs to one thread: no other adds to its segments.
  __device__ __forceinline__ void close(const SsdBlock& t, int next) {
    const SsdMapInputs& in = t.p.terms.in;
    if (segment >= 0) {
#pragma unroll
      for (int h = 0; h < kEights; ++h) {
        const int64_t head = t.head(t.slot0 + first_slot<kEights>(t) + h);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const int64_t row = t.row0 + first_row<kEights>(t) + r;
          if (head < 0 || row >= in.pos) continue;
          float* to = t.p.segment_mass +
                      ((t.b * in.heads + head) * in.pos + row) * t.p.num_segments + segment;
          *to += mass[r][h];
        }
      }
    }
    clear();
    segment = next;
  }
};

template <int kEights>
__device__ __forceinline__ void add_key(const Shared<kEights>& s,
                                        const float (*weights)[kEights * 8], int key, int row0,
                                        int slot0, float (&sum)[4][kEights]) {
  float score[4], weight[kEights];
  load_scores(&s.scores[key][row0], score);
  load_weights<kEights>(&weights[key][slot0], weight);
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    for (int h = 0; h < kEights; ++h) sum[r][h] = fmaf(score[r], weight[h], sum[r][h]);
  }
}

template <int kEights>
__device__ __forceinline__ void add_segments(const SsdBlock& t, const Shared<kEights>& s,
                                             const float (*weights)[kEights * 8],
                                             const float (&decay)[4][kEights],
                                             SegmentRun<kEights>& run) {
  const int row0 = first_row<kEights>(t), slot0 = first_slot<kEights>(t);
  float sum[4][kEights] = {};
  const auto change = [&](int next) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      for (int h = 0; h < kEights; ++h) {
        run.mass[r][h] = fmaf(sum[r][h], decay[r][h], run.mass[r][h]);
        sum[r][h] = 0;
      }
    }
    if (next != run.segment) run.close(t, next);
  };
  for (int eighth = 0; eighth < 8; ++eighth) {
    const int id = s.eighths[eighth];
    if (id == kMixed) {
      for (int key = eighth * 8; key < eighth * 8 + 8; ++key) {
        if (s.segments[key] != run.segment) change(s.segments[key]);
        add_key<kEights>(s, weights, key, row0, slot0, sum);
      }
    } else {
      if (id != run.segment) change(id);
#pragma unroll
      for (int k = 0; k < 8; ++k) add_key<kEights>(s, weights, eighth * 8 + k, row0, slot0, sum);
    }
  }
  change(run.segment);
}

// Segments of the tile's keys, and of its eighths where they are of one.
__device__ __forceinline__ void load_segments(const SsdBlock& t, int64_t tile, int* ids,
                                              int* eighths) {
  const int at = threadIdx.x;
  if (at >= kSsdTile) return;
  const int id = t.p.segments[t.b * t.p.segment_batch_stride + tile * kSsdTile + at];
  ids[at] = id;
  const int of_first = __shfl_sync(0xffffffffu, id, at % 32 & ~7);
  const unsigned same = __ballot_sync(0xffffffffu, id == of_first) >> (at % 32 & ~7) & 0xffu;
  if (at % 8 == 0) eighths[at / 8] = same == 0xffu ? id : kMixed;
}

}  // namespace headlens
