// headlens/kernels: strips of 32 keys of S6 map rows as matrix products, for the rows' figures.
#pragma once

#include "map_parts.cuh"
#include "s6_map.h"

namespace headlens {

constexpr int kWarps = kS6Block / 32;
constexpr int kN = kS6States;
constexpr int kMixed = -2;  // eight keys that are not all of one segment

struct Shared {
  uint4 keys[2][kS6Tile / 8][32];    // factors of a tile's keys, as fragments
  float undo[2][kS6Tile];            // what brings them back to size
  uint4 own_keys[kS6Block / 8][32];  // of the block's own keys, to the end of each strip
  float own_undo[kS6Block];
  float decay[kS6Block][kN];  // exp(A dt_j)
  float write[kS6Block][kN];  // dt_j B_j
  float dt[kS6Block], suffix[kS6Block], strip_sum[kWarps];
  int segment[2][kS6Tile], eighth[2][kS6Tile / 8];
};

// What is summed over a row's keys; in fragments a lane holds a quarter of each of four rows.
struct Row {
  float mass = 0, log_mass = 0, top = 0;  // sum m, sum m log2 m, largest m
  int where = 0;                          // 4 * strip + quarter of the lane that saw it; or ~key
};

struct Block {
  const S6MapStatsParams& p;
  Shared& s;
  int64_t b, channel, line, row0;
  int warp, lane, g, q;

  __device__ int64_t own_row() const { return row0 + warp * 32 + lane; }
};

__device__ __forceinline__ void load4(float* to, const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}

// Half of the states of a key: 4 half .. + 3 and those 8 further.
struct Key {
  float write[8], dt, distance;
};

__device__ __forceinline__ void load_writes(const Block& t, int64_t pos, int half, Key& key) {
  const float* from = t.p.B + (t.b * t.p.steps.padded + pos) * kN + 4 * half;
  load4(key.write, from);
  load4(key.write + 4, from + 8);
}

// Stores dt_j B_j[n] exp(A[n] distance) as fragments, scaled by a power of two.
__device__ __forceinline__ void store_key(const Key& key, const float (&rate)[8], int at, int half,
                                          uint4 (*keys)[32], float* undo) {
  float v[8], largest = 0;
  for (int e = 0; e < 8; ++e) {
    v[e] = key.write[e] * key.dt * exp2_fast(rate[e] * key.distance);
    largest = fmaxf(largest, fabsf(v[e]));
  }
  largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
  const int exponent = half_scale_exponent(largest);
  const float scale = power_of_two(exponent);
  for (int h = 0; h < 2; ++h) {
    const HalfPair low = split_halves(v[2 * h] * scale, v[2 * h + 1] * scale);
    const HalfPair high = split_halves(v[4 + 2 * h] * scale, v[5 + 2 * h] * scale);
    keys[at / 8][(at % 8) * 4 + 2 * half + h] = make_uint4(low.high, high.high, low.low, high.low);
  }
  if (half == 0) undo[at] = power_of_two(-exponent);
}

// The rows' factors C_i[n] exp(A[n] distance) of a warp, as fragments.
struct RowFactors {
  uint32_t high[2][4], low[2][4];
  int exponent[4];
};

// distance: of the lane's own row (row = lane); rate: of the states 2q, 2q + 1 and those 8 further.
__device__ __forceinline__ void make_rows(const Block& t, const float (&rate)[4], float distance,
                                          RowFactors& f) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const int row = r * 8 + t.g;
    const float far = __shfl_sync(0xffffffffu, distance, row);
    const float* from =
        t.p.C + (t.b * t.p.steps.padded + t.row0 + t.warp * 32 + row) * kN + 2 * t.q;
    const float2 first = *reinterpret_cast<const float2*>(from);
    const float2 second = *reinterpret_cast<const float2*>(from + 8);
    const float v[4] = {first.x * exp2_fast(rate[0] * far), first.y * exp2_fast(rate[1] * far),
                        second.x * exp2_fast(rate[2] * far), second.y * exp2_fast(rate[3] * far)};
    const float largest = fmaxf(fmaxf(fabsf(v[0]), fabsf(v[1])), fmaxf(fabsf(v[2]), fabsf(v[3])));
    f.exponent[r] = half_scale_exponent(quad_max(largest));
    const float scale = power_of_two(f.exponent[r]);
    const HalfPair low = split_halves(v[0] * scale, v[1] * scale);
    const HalfPair high = split_halves(v[2] * scale, v[3] * scale);
    f.high[r / 2][r % 2] = low.high, f.high[r / 2][2 + r % 2] = high.high;
    f.low[r / 2][r % 2] = low.low, f.low[r / 2][2 + r % 2] = high.low;
  }
}

// Mass of the segment that the keys are in at present; kept until another begins.
struct SegmentRun {
  float mass[4] = {0, 0, 0, 0};
  int segment = -1;
};

__device__ __forceinline__ void add_segment(const Block& t, const RowFactors& f, int segment,
                                            const float (&mass)[4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const float sum = quad_sum(mass[r]);
    const int64_t row = t.row0 + t.warp * 32 + r * 8 + t.g;
    if (t.q == 0 && row < t.p.steps.pos) {
      t.p.segment_mass[(t.line * t.p.steps.pos + row) * t.p.num_segments + segment] +=
          sum * power_of_two(-f.exponent[r]);
    }
  }
}

__device__ __forceinline__ void close_run(const Block& t, const RowFactors& f, SegmentRun& run) {
  if (run.segment >= 0) add_segment(t, f, run.segment, run.mass);
  run = SegmentRun();
}

// m[r][2]: the entries of keys 2q, 2q + 1 of the eight; ids: their segments.
__device__ __forceinline__ void add_mixed(const Block& t, const RowFactors& f,
                                          const float (&m)[4][2], const int* ids) {
#pragma unroll 1
  for (int k = 0; k < 8; ++k) {
    const int segment = ids[k];
    bool seen = segment < 0;
    for (int earlier = 0; earlier < k; ++earlier) seen = seen || ids[earlier] == segment;
    if (seen) continue;
    const bool first = ids[2 * t.q] == segment, second = ids[2 * t.q + 1] == segment;
    float mass[4];
#pragma unroll
    for (int r = 0; r < 4; ++r) mass[r] = (first ? m[r][0] : 0.0f) + (second ? m[r][1] : 0.0f);
    add_segment(t, f, segment, mass);
  }
}

// Adds the 32 keys of a strip to the rows.
template <bool kSegments>
__device__ __forceinline__ void add_strip(const Block& t, const RowFactors& f,
                                          const uint4 (*keys)[32], const float* undo, int strip,
                                          const int* ids, const int* eighths, Row (&rows)[4],
                                          SegmentRun& run) {
  float top[4] = {0, 0, 0, 0};
#pragma unroll
  for (int eight = 0; eight < 4; ++eight) {
    const uint4 key = keys[eight][t.lane];
    const float2 size = *reinterpret_cast<const float2*>(undo + eight * 8 + 2 * t.q);
    float m[4][2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float d[4] = {0, 0, 0, 0};
      mma_split(d, f.high[half], f.low[half], key);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int r = 2 * half + e / 2;
        const float entry = fabsf(d[e]) * (e % 2 == 0 ? size.x : size.y);
        rows[r].mass += entry;
        rows[r].log_mass = fmaf(entry, log2_fast(entry + kLeast), rows[r].log_mass);
        top[r] = fmaxf(top[r], entry);
        m[r][e % 2] = entry;
      }
    }
    if (kSegments) {
      const int id = eighths[eight];
      if (id != run.segment) close_run(t, f, run);
      if (id == kMixed) add_mixed(t, f, m, ids + eight * 8);
      if (id >= 0) {
        run.segment = id;
#pragma unroll
        for (int r = 0; r < 4; ++r) run.mass[r] += m[r][0] + m[r][1];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    if (top[r] >= rows[r].top) rows[r].top = top[r], rows[r].where = strip * 4 + t.q;
  }
}

// Adds what was summed with scaled factors to the rows at their true size.
__device__ __forceinline__ void add_scaled(const RowFactors& f, const Row (&scaled)[4],
                                           Row (&rows)[4]) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const float size = power_of_two(-f.exponent[r]);
    rows[r].mass = fmaf(scaled[r].mass, size, rows[r].mass);
    rows[r].log_mass +=
        size * fmaf(-static_cast<float>(f.exponent[r]), scaled[r].mass, scaled[r].log_mass);
    if (scaled[r].top * size >= rows[r].top) {
      rows[r].top = scaled[r].top * size, rows[r].where = scaled[r].where;
    }
  }
}

// Segments of the tile's keys, and of its eighths where they are of one.
__device__ __forceinline__ void load_segments(const Block& t, int64_t first, int* ids,
                                              int* eighths) {
  const int at = threadIdx.x;
  if (at >= kS6Tile) return;
  const int id = t.p.segments[t.b * t.p.segment_batch_stride + first + at];
  ids[at] = id;
  const int of_first = __shfl_sync(0xffffffffu, id, at % 32 & ~7);
  const unsigned same = __ballot_sync(0xffffffffu, id == of_first);
  const unsigned eight = same >> (at % 32 & ~7) & 0xffu;
  if (at % 8 == 0) eighths[at / 8] = eight == 0xffu ? id : kMixed;
}

}  // namespace headlens
