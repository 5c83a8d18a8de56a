// headlens/kernels: the backward of the selective scan over one piece of the sequence.
#pragma once

#include "selective_scan_tile.cuh"

namespace headlens {

constexpr int kScanBlockSteps = static_cast<int>(kScanSaveEvery);

/// One launch: states first .. first + kScanStates - 1 of every piece of `length` positions.
struct ScanBackwardPass {
  int first, length, pieces;
  bool starts, ends;
  bool wide_rows;
};

template <typename Tile>
struct ScanBackwardShared {
  float4 before[kScanBlockSteps][2][Tile::kThreads];  // each thread's states before a position
  float4 steps[kScanBlockSteps][Tile::kPairs];        // dt and dt x of two channels
  float2 grad_y[kScanBlockSteps][Tile::kPairs];
  float rows[kScanBlockSteps][Tile::kRow];  // B and C
  // Sums over a channel's states, of gradients of dt x and of the exponent; padded apart.
  float sums[2][kScanBlockSteps * Tile::kChannels + 16];
  float grad_rows[Tile::kThreads / 32][kScanBlockSteps][2 * kScanStates];  // of B and C, by warp
  float D[Tile::kChannels], dt_bias[Tile::kChannels];
};

/// Adds v over the two lanes that differ in `mask`; the lower keeps the first half of the sums.
template <int N>
__device__ __forceinline__ void fold(float (&v)[N], int count, int mask) {
  const bool upper = threadIdx.x & mask;
#pragma unroll
  for (int i = 0; i < count / 2; ++i) {
    const float keep = upper ? v[i + count / 2] : v[i], give = upper ? v[i] : v[i + count / 2];
    v[i] = keep + __shfl_xor_sync(0xffffffffu, give, mask);
  }
}

/// A thread's vectors of a block of positions: one for each `part` of it.
template <typename T>
struct ScanBackwardLoads {
  using Tile = ScanTile<T>;
  static constexpr int kParts = kScanBlockSteps / Tile::kSteps;
  RawVector<T> x[kParts], grad_y[kParts];
  RawDt<T> dt[kParts];
  RawRow<T, Tile> row[kParts];

  template <bool kWide>
  __device__ __forceinline__ void load(const ScanBackwardParams& p, const ScanBackwardPass& pass,
                                       const ScanShare<Tile>& share, int batch, int first,
                                       int end) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int at = first + i * Tile::kSteps, pos = min(at + share.step, end - 1);
      x[i] = load_raw<T, kWide>(ScanRows<T>(p.in.x, batch, share.channel).at(pos), share.valid);
      grad_y[i] =
          load_raw<T, kWide>(ScanRows<T>(p.grad_y, batch, share.channel).at(pos), share.valid);
      dt[i].template load<kWide>(p.in, batch, pos, share.channel, share.valid);
      row[i].load(p.in, pass.first, pass.wide_rows, thread, batch, at, end);
    }
  }
};

/// exp(dt A), A in units of log 2.
__device__ __forceinline__ void decays_of(float dt, const float (&A)[4], float (&to)[4]) {
#pragma unroll
  for (int s = 0; s < 4; ++s) to[s] = exp2_fast(dt * A[s]);
}

__device__ __forceinline__ void to_array(const float4& from, float (&to)[4]) {
  to[0] = from.x, to[1] = from.y, to[2] = from.z, to[3] = from.w;
}

/// What a thread keeps from one block of positions to the one before it.
struct ScanGrads {
  float A[2][4];  // in units of log 2
  float g[2][4];  // of the states, from all later positions
  float grad_A[2][4];
};

/// Positions of a block forwards: leaves the state before each, h is the one after the last.
template <typename Tile>
__device__ __forceinline__ void replay(ScanBackwardShared<Tile>& shared,
                                       const ScanOwner<Tile, 2>& owner, const float (&A)[2][4],
                                       float (&h)[2][4]) {
  const int thread = static_cast<int>(threadIdx.x), unit = swizzled_pair(owner.index);
#pragma unroll 4
  for (int t = 0; t < kScanBlockSteps; ++t) {
    const float4 step = shared.steps[t][unit];
    float B[4];
    to_array(*reinterpret_cast<const float4*>(shared.rows[t] + owner.lane * 8), B);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      shared.before[t][c][thread] = make_float4(h[c][0], h[c][1], h[c][2], h[c][3]);
      float decay[4];
      decays_of(c == 0 ? step.x : step.z, A[c], decay);
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        h[c][s] = fmaf(decay[s], h[c][s], (c == 0 ? step.y : step.w) * B[s]);
      }
    }
  }
}

/// One position backwards; `after` are the states after it, and then those before it.
template <typename Tile>
__device__ __forceinline__ void step_back(ScanBackwardShared<Tile>& shared, int t,
                                          const ScanOwner<Tile, 2>& owner, ScanGrads& grads,
                                          float (&after)[2][4]) {
  const int thread = static_cast<int>(threadIdx.x);
  const float4 step = shared.steps[t][swizzled_pair(owner.index)];
  const float2 dy = shared.grad_y[t][owner.index];
  const float4* row = reinterpret_cast<const float4*>(shared.rows[t] + owner.lane * 8);
  float B[4], C[4], by_row[8], by_channel[4];  // gradients: B, C; dt x, exponent
  to_array(row[0], B), to_array(row[1], C);
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float grad_y = c == 0 ? dy.x : dy.y, dt = c == 0 ? step.x : step.z,
                u = c == 0 ? step.y : step.w;
    float before[4], decay[4], du = 0, exponent = 0;
    to_array(shared.before[t][c][thread], before);
    decays_of(dt, grads.A[c], decay);
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      float& g = grads.g[c][s];
      g = fmaf(C[s], grad_y, g);
      by_row[s] = c == 0 ? g * u : fmaf(g, u, by_row[s]);
      by_row[4 + s] = c == 0 ? after[c][s] * grad_y : fmaf(after[c][s], grad_y, by_row[4 + s]);
      du = s == 0 ? g * B[s] : fmaf(g, B[s], du);
      g *= decay[s];
      const float inner = g * before[s];
      grads.grad_A[c][s] = fmaf(inner, dt, grads.grad_A[c][s]);
      exponent = s == 0 ? inner * grads.A[c][s] : fmaf(inner, grads.A[c][s], exponent);
      after[c][s] = before[s];
    }
    by_channel[c] = du, by_channel[2 + c] = exponent;
  }
  fold(by_channel, 4, 1), fold(by_channel, 2, 2);
  const int lane = owner.lane;
  shared.sums[lane & 1][t * Tile::kChannels + 2 * owner.index + lane / 2] = by_channel[0];
  fold(by_row, 8, 4), fold(by_row, 4, 8), fold(by_row, 2, 16);
  const int within = thread % 32, state = (within >> 3 & 1) * 2 + (within >> 4);
  shared.grad_rows[thread / 32][t][(within >> 2 & 1) * kScanStates + lane * 4 + state] = by_row[0];
}

template <typename T, bool kWide>
struct ScanBackwardBlock {
  using Tile = ScanTile<T>;
  static constexpr int kVec = Tile::kVec, kParts = ScanBackwardLoads<T>::kParts;
  const ScanBackwardParams& p;
  const ScanBackwardPass& pass;
  ScanBackwardShared<Tile>& shared;
  const ScanShare<Tile>& share;
  const int batch, end;

  __device__ __forceinline__ void stage(const ScanBackwardLoads<T>& loads, int first,
                                        float (&dt)[kParts][kVec]) const {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int t = i * Tile::kSteps + share.step;
      const bool exists = first + t < end && share.valid > 0;
      float x[kVec], dy[kVec];
      loads.dt[i].unpack(p.in, shared.dt_bias + share.first(), exists, dt[i]);
      loads.x[i].unpack(x), loads.grad_y[i].unpack(dy);
#pragma unroll
      for (int j = 0; j < kVec; j += 2) {
        const int pair = (share.first() + j) / 2;
        shared.steps[t][swizzled_pair(pair)] =
            make_float4(dt[i][j], dt[i][j] * x[j], dt[i][j + 1], dt[i][j + 1] * x[j + 1]);
        shared.grad_y[t][pair] = exists ? make_float2(dy[j], dy[j + 1]) : make_float2(0, 0);
      }
      loads.row[i].stage(static_cast<int>(threadIdx.x), shared.rows + i * Tile::kSteps);
    }
  }

  /// grad_x and grad_dt of this thread's vectors; adds up its part of grad_D.
  __device__ __forceinline__ void write(const ScanBackwardLoads<T>& loads, int first,
                                        const float (&dt)[kParts][kVec],
                                        float (&grad_D)[kVec]) const {
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int t = i * Tile::kSteps + share.step, pos = first + t;
      if (pos >= end || share.valid == 0) continue;
      const float* sums = shared.sums[0] + t * Tile::kChannels + share.first();
      const float* exponents = shared.sums[1] + t * Tile::kChannels + share.first();
      float du[kVec], exponent[kVec];
#pragma unroll
      for (int j = 0; j < kVec; ++j) du[j] = sums[j], exponent[j] = exponents[j];
      const int64_t offset = (batch * p.in.pos + pos) * p.in.channels + share.channel;
      if (!add_passes(offset, du, exponent)) continue;
      float x[kVec], dy[kVec];
      loads.x[i].unpack(x), loads.grad_y[i].unpack(dy);
#pragma unroll
      for (int j = 0; j < kVec; ++j) {
        grad_D[j] = fmaf(dy[j], x[j], grad_D[j]);
        float of_dt = fmaf(du[j], x[j], exponent[j] * (1 / kLog2E));
        if (p.in.softplus) of_dt *= 1 - exp2_fast(-kLog2E * dt[i][j]);  // its slope, a sigmoid
        exponent[j] = of_dt;
        du[j] = fmaf(shared.D[share.first() + j], dy[j], du[j] * dt[i][j]);
      }
      store_some<T, kVec, kWide>(static_cast<T*>(p.grad_x) + offset, du, share.valid);
      if (!RawDt<T>::is_float(p.in)) {
        store_some<T, kVec, kWide>(static_cast<T*>(p.grad_dt) + offset, exponent, share.valid);
        continue;
      }
#pragma unroll
      for (int j = 0; j < kVec; j += 4) {
        const float four[4] = {exponent[j], exponent[j + 1], exponent[j + 2], exponent[j + 3]};
        store_some<float, 4, kWide>(static_cast<float*>(p.grad_dt) + offset + j, four,
                                    share.valid - j);
      }
    }
  }

  /// Sums over the passes made so far; false unless this is the last one.
  __device__ __forceinline__ bool add_passes(int64_t offset, float (&du)[kVec],
                                             float (&exponent)[kVec]) const {
    if (pass.starts && pass.ends) return true;
    float* first = p.sums + offset;
    float* second = first + p.in.batch * p.in.pos * p.in.channels;
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      if (j >= share.valid) continue;
      if (!pass.starts) du[j] += first[j], exponent[j] += second[j];
      if (!pass.ends) first[j] = du[j], second[j] = exponent[j];
    }
    return pass.ends;
  }

  /// Gradients of B and C from this block's channels.
  __device__ __forceinline__ void write_rows(int first) const {
    constexpr int kRow = 2 * static_cast<int>(kScanStates), kFours = kScanBlockSteps * kRow / 4;
    static_assert(kFours == Tile::kThreads, "one vector of four a thread");
    const int at = static_cast<int>(threadIdx.x) * 4, t = at / kRow, pos = first + t;
    if (pos >= end) return;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int w = 0; w < Tile::kThreads / 32; ++w) {
      const float4 some = *reinterpret_cast<const float4*>(&shared.grad_rows[w][t][at % kRow]);
      sum.x += some.x, sum.y += some.y, sum.z += some.z, sum.w += some.w;
    }
    const int64_t row = (int64_t{blockIdx.x} * p.in.batch + batch) * p.in.pos + pos;
    *reinterpret_cast<float4*>(p.partial_rows + row * kRow + at % kRow) = sum;
  }

  /// Adds up grad_D of the threads that have the same channels.
  __device__ __forceinline__ void write_D(const float (&grad_D)[kVec], float* to) const {
    float* scratch = shared.sums[0];  // [kSteps, kChannels]
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kVec; ++j) {
      scratch[share.step * Tile::kChannels + share.first() + j] = grad_D[j];
    }
    __syncthreads();
    const int c = static_cast<int>(threadIdx.x);
    const int channel = static_cast<int>(blockIdx.x) * Tile::kChannels + c;
    if (c >= Tile::kChannels || channel >= static_cast<int>(p.in.channels)) return;
    float sum = 0;
    for (int t = 0; t < Tile::kSteps; ++t) sum += scratch[t * Tile::kChannels + c];
    to[channel] = sum;
  }
};

template <typename T, bool kWide>
__global__ void __launch_bounds__(ScanTile<T>::kThreads, 2)
    scan_backward_kernel(const ScanBackwardParams p, const ScanBackwardPass pass) {
  extern __shared__ __align__(16) unsigned char bytes[];
  using Tile = ScanTile<T>;
  auto& shared = *reinterpret_cast<ScanBackwardShared<Tile>*>(bytes);
  const ScanInputs& in = p.in;
  const int batch = static_cast<int>(blockIdx.y), piece = static_cast<int>(blockIdx.z);
  const int begin = piece * pass.length, end = min(begin + pass.length, static_cast<int>(in.pos));
  const int first_channel = static_cast<int>(blockIdx.x) * Tile::kChannels;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < Tile::kChannels) {
    const bool inside = first_channel + thread < static_cast<int>(in.channels);
    shared.D[thread] = in.D != nullptr && inside ? in.D[first_channel + thread] : 0;
    shared.dt_bias[thread] =
        in.dt_bias != nullptr && inside ? in.dt_bias[first_channel + thread] : 0;
  }
  const ScanShare<Tile> share(thread, first_channel, static_cast<int>(in.channels));
  const ScanOwner<Tile, 2> owner(thread, first_channel, pass.first, in);
  const ScanBackwardBlock<T, kWide> block{p, pass, shared, share, batch, end};
  const int64_t state_size = in.channels * in.d_state;
  const int64_t part = int64_t{batch} * pass.pieces + piece;
  ScanGrads grads{};
  owner.load(in.A, in.d_state, kLog2E, grads.A);
  const float* later = p.grad_state == nullptr ? nullptr : p.grad_state + batch * state_size;
  owner.load(pass.pieces > 1 ? p.carry + part * state_size : later, in.d_state, 1, grads.g);

  const int64_t saves = (in.pos + kScanSaveEvery - 1) / kScanSaveEvery;
  const float* saved = p.saved + batch * saves * state_size;
  ScanBackwardLoads<T> loads;
  float grad_D[Tile::kVec] = {};
  int first = begin + (end - begin - 1) / kScanBlockSteps * kScanBlockSteps;
  loads.template load<kWide>(p, pass, share, batch, first, end);
  __syncthreads();
#pragma unroll 1
  for (; first >= begin; first -= kScanBlockSteps) {
    float dt[ScanBackwardLoads<T>::kParts][Tile::kVec], h[2][4];
    owner.load(saved + first / kScanBlockSteps * state_size, in.d_state, 1, h);
    block.stage(loads, first, dt);
    const ScanBackwardLoads<T> now = loads;
    __syncthreads();
    if (first > begin) {
      loads.template load<kWide>(p, pass, share, batch, first - kScanBlockSteps, end);
    }
    replay<Tile>(shared, owner, grads.A, h);
#pragma unroll 2
    for (int t = kScanBlockSteps - 1; t >= 0; --t) step_back<Tile>(shared, t, owner, grads, h);
    __syncthreads();
    block.write(now, first, dt, grad_D);
    block.write_rows(first);
  }
  owner.store(grads.grad_A, in.d_state, p.partial_A + part * state_size);
  if (piece == 0 && p.grad_before != nullptr) {
    owner.store(grads.g, in.d_state, p.grad_before + batch * state_size);
  }
  if (p.partial_D != nullptr && pass.ends) block.write_D(grad_D, p.partial_D + part * in.channels);
}

/// What a piece whose last states have no gradient leaves as that of the states before it:
/// r = exp(dt A) (r + C grad_y), last position first.
template <typename T, bool kWide>
__global__ void __launch_bounds__(ScanTile<T>::kThreads, 4)
    scan_backward_carry_kernel(const ScanBackwardParams p, const ScanBackwardPass pass) {
  using Tile = ScanTile<T>;
  __shared__ float4 steps[kScanBlockSteps][Tile::kPairs];  // dt and grad_y of two channels
  __shared__ __align__(16) float rows[kScanBlockSteps][Tile::kRow];
  __shared__ float dt_bias[Tile::kChannels];
  const ScanInputs& in = p.in;
  const int batch = static_cast<int>(blockIdx.y), piece = static_cast<int>(blockIdx.z) + 1;
  const int begin = piece * pass.length, end = min(begin + pass.length, static_cast<int>(in.pos));
  const int first_channel = static_cast<int>(blockIdx.x) * Tile::kChannels;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < Tile::kChannels) {
    const bool inside = first_channel + thread < static_cast<int>(in.channels);
    dt_bias[thread] = in.dt_bias != nullptr && inside ? in.dt_bias[first_channel + thread] : 0;
  }
  const ScanShare<Tile> share(thread, first_channel, static_cast<int>(in.channels));
  const ScanOwner<Tile, 2> owner(thread, first_channel, pass.first, in);
  float A[2][4], r[2][4] = {}, dt_sum[2] = {0, 0};
  owner.load(in.A, in.d_state, kLog2E, A);
  ScanBackwardLoads<T> loads;
  int first = begin + (end - begin - 1) / kScanBlockSteps * kScanBlockSteps;
  loads.template load<kWide>(p, pass, share, batch, first, end);
#pragma unroll 1
  for (; first >= begin; first -= kScanBlockSteps) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ScanBackwardLoads<T>::kParts; ++i) {
      const int t = i * Tile::kSteps + share.step;
      const bool exists = first + t < end && share.valid > 0;
      float dt[Tile::kVec], dy[Tile::kVec];
      loads.dt[i].unpack(in, dt_bias + share.first(), exists, dt);
      loads.grad_y[i].unpack(dy);
#pragma unroll
      for (int j = 0; j < Tile::kVec; j += 2) {
        steps[t][swizzled_pair((share.first() + j) / 2)] =
            make_float4(dt[j], exists ? dy[j] : 0, dt[j + 1], exists ? dy[j + 1] : 0);
      }
      loads.row[i].stage(thread, rows + i * Tile::kSteps);
    }
    __syncthreads();
    if (first > begin) {
      loads.template load<kWide>(p, pass, share, batch, first - kScanBlockSteps, end);
    }
#pragma unroll 4
    for (int t = kScanBlockSteps - 1; t >= 0; --t) {
      const float4 step = steps[t][swizzled_pair(owner.index)];
      float C[4];
      to_array(*reinterpret_cast<const float4*>(rows[t] + owner.lane * 8 + 4), C);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float decay[4];
        decays_of(c == 0 ? step.x : step.z, A[c], decay);
#pragma unroll
        for (int s = 0; s < 4; ++s)
          r[c][s] = decay[s] * fmaf(C[s], c == 0 ? step.y : step.w, r[c][s]);
      }
      dt_sum[0] += step.x, dt_sum[1] += step.z;
    }
  }
  const int64_t part = int64_t{batch} * pass.pieces + piece;
  owner.store(r, in.d_state, p.carry + part * in.channels * in.d_state);
  if (owner.lane == 0 && pass.starts) {
    float* sums = p.dt_sums + part * in.channels + owner.channel;
    if (owner.states[0] > 0) sums[0] = dt_sum[0];
    if (owner.states[1] > 0) sums[1] = dt_sum[1];
  }
}

}  // namespace headlens
