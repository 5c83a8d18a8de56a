// headlens/kernels: figures of every row of the maps of Mamba-1 channels, streamed.
//
// A block has one channel's rows i0 .. i0 + 127, a warp 32 of them. For keys j before i0
//   M_ij = sum_n (C_i[n] exp(A[n] s(i0..i))) (dt_j B_j[n] exp(A[n] s(j+1..i0-1)))
// both factors at most |C|, |dt B|: a matrix product with 16 inner terms, of halves split in two.
// The same holds between the block's own strips of 32 keys and the warps after them, with the
// strip's end for i0; a warp's own strip takes the recurrence over j with a row a lane.
#include "s6_map_strip.cuh"

namespace headlens {
namespace {

// Keys before the block, a tile at a time from the nearest to the first.
template <bool kSegments>
__device__ __forceinline__ void add_earlier_tiles(const Block& t, const float (&rate)[8],
                                                  const RowFactors& f, Row (&rows)[4]) {
  Shared& s = t.s;
  const S6Steps& steps = t.p.steps;
  const int tiles = static_cast<int>(t.row0 / kS6Tile), half = threadIdx.x % 2;
  const int at = threadIdx.x / 2;
  const double* before = steps.before + t.line * (steps.padded / kS6Tile + 1);
  const double start = before[tiles];
  const auto load = [&](int tile) {
    const int64_t pos = int64_t{tile} * kS6Tile + at, from = t.line * steps.padded + pos;
    Key key;
    load_writes(t, pos, half, key);
    key.dt = steps.by_channel[from];
    key.distance = steps.suffix[from] + static_cast<float>(start - before[tile + 1]);
    return key;
  };
  SegmentRun run;
  Key next;
  if (tiles > 0) next = load(tiles - 1);
  for (int tile = tiles - 1; tile >= 0; --tile) {
    const int buffer = tile & 1;
    store_key(next, rate, at, half, s.keys[buffer], s.undo[buffer]);
    if (kSegments) {
      load_segments(t, int64_t{tile} * kS6Tile, s.segment[buffer], s.eighth[buffer]);
    }
    __syncthreads();
    if (tile > 0) next = load(tile - 1);
    for (int strip = 1; strip >= 0; --strip) {
      add_strip<kSegments>(t, f, s.keys[buffer] + 4 * strip, s.undo[buffer] + 32 * strip,
                           2 * tile + strip, s.segment[buffer] + 32 * strip,
                           s.eighth[buffer] + 4 * strip, rows, run);
    }
  }
  if (kSegments) close_run(t, f, run);
}

// What the block's own keys need: factors to the end of their strip, decays, writes, segments.
template <bool kSegments>
__device__ __forceinline__ void make_own_keys(const Block& t, const float (&rate)[8]) {
  Shared& s = t.s;
  const int half = threadIdx.x % 2;
  for (int at = threadIdx.x / 2; at < kS6Block; at += kS6Tile) {
    Key key;
    load_writes(t, t.row0 + at, half, key);
    key.dt = s.dt[at], key.distance = s.suffix[at];
    store_key(key, rate, at, half, s.own_keys, s.own_undo);
    for (int e = 0; e < 8; ++e) {
      const int n = 4 * half + e % 4 + e / 4 * 8;
      s.decay[at][n] = exp2_fast(rate[e] * key.dt);
      s.write[at][n] = key.write[e] * key.dt;
    }
  }
  if (kSegments) {
    for (int tile = 0; tile < 2; ++tile) {
      load_segments(t, t.row0 + tile * kS6Tile, s.segment[tile], s.eighth[tile]);
    }
  }
}

// A warp's own strip: row = lane, the recurrence from the diagonal backwards.
template <bool kSegments>
__device__ __forceinline__ void add_own_strip(const Block& t, Row& row) {
  const Shared& s = t.s;
  const float* read = t.p.C + (t.b * t.p.steps.padded + t.own_row()) * kN;
  float* masses = t.p.segment_mass + (t.line * t.p.steps.pos + t.own_row()) * t.p.num_segments;
  float factor[kN];
  for (int n = 0; n < kN; ++n) factor[n] = 0;
  float run = 0;
  int segment = -1;
  const auto close = [&]() {
    if (segment >= 0 && t.own_row() < t.p.steps.pos) masses[segment] += run;
    run = 0;
  };
  for (int at = 31; at >= 0; --at) {
    if (at == t.lane) {
      for (int n = 0; n < kN; n += 4) load4(factor + n, read + n);
    }
    const int key = t.warp * 32 + at;
    float m = 0, m2 = 0;
#pragma unroll
    for (int n = 0; n < kN; n += 4) {
      float write[4], decay[4];
      load4(write, s.write[key] + n);
      load4(decay, s.decay[key] + n);
      m = fmaf(factor[n], write[0], m), m2 = fmaf(factor[n + 1], write[1], m2);
      m = fmaf(factor[n + 2], write[2], m), m2 = fmaf(factor[n + 3], write[3], m2);
      for (int e = 0; e < 4; ++e) factor[n + e] *= decay[e];
    }
    const float entry = at <= t.lane ? fabsf(m + m2) : 0.0f;
    row.mass += entry;
    row.log_mass = fmaf(entry, log2_fast(entry + kLeast), row.log_mass);
    if (at <= t.lane && entry >= row.top) {
      row.top = entry, row.where = ~static_cast<int>(t.row0 + key);
    }
    if (kSegments) {
      const int id = s.segment[key / kS6Tile][key % kS6Tile];
      if (id != segment) close(), segment = id;
      run += entry;
    }
  }
  if (kSegments) close();
}

// The sums of a row, from the four lanes that hold a quarter each to the lane of the row's number.
__device__ __forceinline__ Row row_of_lane(const Block& t, Row (&rows)[4]) {
  Row own;
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    Row& row = rows[r];
    row.mass = quad_sum(row.mass), row.log_mass = quad_sum(row.log_mass);
    for (int step = 1; step <= 2; step *= 2) {
      const float top = __shfl_xor_sync(0xffffffffu, row.top, step);
      const int where = __shfl_xor_sync(0xffffffffu, row.where, step);
      if (top > row.top || (top == row.top && where < row.where)) row.top = top, row.where = where;
    }
    const int from = t.lane % 8 * 4;
    Row here;
    here.mass = __shfl_sync(0xffffffffu, row.mass, from);
    here.log_mass = __shfl_sync(0xffffffffu, row.log_mass, from);
    here.top = __shfl_sync(0xffffffffu, row.top, from);
    here.where = __shfl_sync(0xffffffffu, row.where, from);
    if (t.lane / 8 == r) own = here;
  }
  return own;
}

// The largest of the eight entries that one lane saw of a strip, from the definition.
__device__ int largest_of(const Block& t, int where, double own_sum) {
  const S6Steps& steps = t.p.steps;
  const double* before = steps.before + t.line * (steps.padded / kS6Tile + 1);
  const int strip = where / 4, quarter = where % 4;
  const float* read = t.p.C + (t.b * steps.padded + t.own_row()) * kN;
  const float* A = t.p.A + t.channel * kN;
  const double end = before[strip / 2 + 1];
  float top = -1;
  int best = 0;
  for (int k = 0; k < 8; ++k) {
    const int key = strip * 32 + k / 2 * 8 + quarter * 2 + k % 2;
    const int64_t at = t.line * steps.padded + key;
    const float distance = static_cast<float>(own_sum - end + steps.suffix[at]);
    const float* write = t.p.B + (t.b * steps.padded + key) * kN;
    float m = 0;
    for (int n = 0; n < kN; ++n) {
      m = fmaf(read[n] * write[n], exp2_fast(A[n] * kLog2E * distance), m);
    }
    m = fabsf(m * steps.by_channel[at]);
    if (m > top) top = m, best = key;
  }
  return best;
}

__device__ __forceinline__ void write_row(const Block& t, const Row& row, int64_t key) {
  if (t.own_row() >= t.p.steps.pos) return;
  const int64_t at = t.line * t.p.steps.pos + t.own_row();
  const bool some = row.mass > 0;
  const float entropy = kLn2 * (log2_fast(row.mass) - row.log_mass / row.mass);
  t.p.entropy[at] = some ? fmaxf(entropy, 0.0f) : row.mass;  // a row of NaN stays one
  t.p.row_mass[at] = row.mass;
  t.p.max[at] = some ? row.top / row.mass : row.mass;
  t.p.argmax[at] = some ? key : 0;
}

template <bool kSegments>
__global__ void __launch_bounds__(kS6Block) s6_map_stats(const S6MapStatsParams p) {
  __shared__ Shared s;
  const int64_t block = p.steps.padded / kS6Block - 1 - blockIdx.y;  // the longest rows first
  const Block t{p,
                s,
                blockIdx.z,
                blockIdx.x,
                blockIdx.z * p.steps.channels + blockIdx.x,
                block * kS6Block,
                static_cast<int>(threadIdx.x / 32),
                static_cast<int>(threadIdx.x % 32),
                static_cast<int>(threadIdx.x % 32 / 4),
                static_cast<int>(threadIdx.x % 4)};
  const float* A = p.A + t.channel * kN;
  float key_rate[8], row_rate[4];
  for (int e = 0; e < 8; ++e) {
    key_rate[e] = A[4 * (threadIdx.x % 2) + e % 4 + e / 4 * 8] * kLog2E;
  }
  for (int e = 0; e < 4; ++e) row_rate[e] = A[2 * t.q + e % 2 + e / 2 * 8] * kLog2E;

  const float dt = p.steps.by_channel[t.line * p.steps.padded + t.row0 + threadIdx.x];
  float prefix = dt, from = dt;  // sums within the strip, up to and with, from and with
  for (int step = 1; step < 32; step *= 2) {
    const float earlier = __shfl_up_sync(0xffffffffu, prefix, step);
    const float later = __shfl_down_sync(0xffffffffu, from, step);
    if (t.lane >= step) prefix += earlier;
    if (t.lane + step < 32) from += later;
  }
  const float after = __shfl_down_sync(0xffffffffu, from, 1);
  s.dt[threadIdx.x] = dt, s.suffix[threadIdx.x] = t.lane < 31 ? after : 0.0f;
  if (t.lane == 31) s.strip_sum[t.warp] = prefix;
  __syncthreads();
  float distance = prefix;
  for (int strip = 0; strip < t.warp; ++strip) distance += s.strip_sum[strip];
  const double own_sum =
      p.steps.before[t.line * (p.steps.padded / kS6Tile + 1) + t.row0 / kS6Tile] +
      static_cast<double>(distance);

  Row rows[4];
  RowFactors factors;
  {
    make_rows(t, row_rate, distance, factors);
    Row scaled[4];
    add_earlier_tiles<kSegments>(t, key_rate, factors, scaled);
    add_scaled(factors, scaled, rows);
  }
  __syncthreads();
  make_own_keys<kSegments>(t, key_rate);
  __syncthreads();
  for (int strip = t.warp - 1; strip >= 0; --strip) {
    distance = prefix;
    for (int between = strip + 1; between < t.warp; ++between) distance += s.strip_sum[between];
    make_rows(t, row_rate, distance, factors);
    Row scaled[4];
    SegmentRun run;
    add_strip<kSegments>(t, factors, s.own_keys + 4 * strip, s.own_undo + 32 * strip,
                         static_cast<int>(t.row0 / 32) + strip,
                         s.segment[strip / 2] + strip % 2 * 32, s.eighth[strip / 2] + strip % 2 * 4,
                         scaled, run);
    if (kSegments) close_run(t, factors, run);
    add_scaled(factors, scaled, rows);
  }
  Row own = row_of_lane(t, rows);
  add_own_strip<kSegments>(t, own);
  write_row(t, own, own.where < 0 ? ~own.where : largest_of(t, own.where, own_sum));
}

}  // namespace

cudaError_t launch_s6_map_stats(const S6MapStatsParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.steps.channels),
                  static_cast<unsigned>(p.steps.padded / kS6Block),
                  static_cast<unsigned>(p.steps.batch));
  if (p.segments != nullptr) {
    s6_map_stats<true><<<grid, kS6Block, 0, stream>>>(p);
  } else {
    s6_map_stats<false><<<grid, kS6Block, 0, stream>>>(p);
  }
  return cudaGetLastError();
}

}  // namespace headlens
