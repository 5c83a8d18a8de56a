// headlens/kernels: the forward of the selective scan over one piece of the sequence.
#pragma once

#include "selective_scan_tile.cuh"

namespace headlens {

/// One launch: states first .. first + kScanStates - 1 of every piece of `length` positions.
struct ScanPass {
  int first, length, pieces;
  bool starts, ends;  // whether it is the first pass and the last one
  bool wide_rows;     // whether B and C may be read in 16-byte vectors
};

template <typename Tile>
struct ScanBuffer {
  float4 steps[Tile::kSteps][Tile::kPairs];       // dt and dt x of two channels
  float rows[Tile::kSteps][Tile::kRow];           // B and C
  float4 partial[Tile::kSteps][Tile::kChannels];  // what two lanes add to y of two channels
};

/// What one thread of 128 has on its way to it of one tile: each reads only its own.
template <typename T>
struct ScanArrivals {
  using Tile = ScanTile<T>;
  RawVector<T> x[Tile::kThreads], z[Tile::kThreads];
  RawVector<float> dt[RawDt<T>::kParts][Tile::kThreads];
  RawVector<T> rows[Tile::kSteps * Tile::kRowVecs];
};

/// Half of a block loads tiles and writes outputs, the other half advances the states: the first
/// works ahead, so that the second never waits for memory. Tiles travel kScanAhead tiles early; a
/// tile's x and z stay until its outputs were written, two tiles later.
constexpr int kScanAhead = 3, kScanRing = kScanAhead + 2;
template <typename T>
struct ScanShared {
  ScanArrivals<T> ring[kScanRing];
  ScanBuffer<ScanTile<T>> buffers[2];
  float D[ScanTile<T>::kChannels], dt_bias[ScanTile<T>::kChannels];
};
constexpr int kScanBlock = 256;

/// Both halves at the end of a round: one has staged tile i and written tile i - 2, in one buffer,
/// while the other advanced tile i - 1 in the other.
__device__ __forceinline__ void next_round() {
  asm volatile("bar.sync 0, %0;" ::"n"(kScanBlock) : "memory");
}

/// y of a thread's vector from what the lanes of each channel added.
template <typename Tile>
__device__ __forceinline__ void gather_y(const float4 (&row)[Tile::kChannels], int first,
                                         float (&y)[Tile::kVec]) {
#pragma unroll
  for (int i = 0; i < Tile::kVec; i += 2) {
    const float4 a = row[swizzled_channel(first + i)], b = row[swizzled_channel(first + i + 1)];
    y[i] = (a.x + a.z) + (b.x + b.z);
    y[i + 1] = (a.y + a.w) + (b.y + b.w);
  }
}

template <typename T, bool kWide>
struct ScanProducer {
  using Tile = ScanTile<T>;
  static constexpr int kVec = Tile::kVec;
  const ScanForwardParams& p;
  const ScanPass& pass;
  ScanShared<T>& shared;
  const int thread, batch, end;
  const ScanShare<Tile> share;

  /// Sends one vector on its way; what is not aligned is fetched at once.
  template <typename E, bool kAligned>
  __device__ __forceinline__ void fetch(const E* from, int valid, RawVector<E>& to) const {
    if constexpr (kAligned) {
      copy_async(&to, from);
    } else {
      to = load_raw<E, false>(from, valid);
    }
  }

  __device__ __forceinline__ void load(int first, bool gated, ScanArrivals<T>& to) const {
    const int pos = min(first + share.step, end - 1), channel = share.channel;
    fetch<T, kWide>(ScanRows<T>(p.in.x, batch, channel).at(pos), share.valid, to.x[thread]);
    if (gated) {
      fetch<T, kWide>(ScanRows<T>(p.z, batch, channel).at(pos), share.valid, to.z[thread]);
    }
    if (RawDt<T>::is_float(p.in)) {
      const float* from = ScanRows<float>(p.in.dt, batch, channel).at(pos);
#pragma unroll
      for (int i = 0; i < RawDt<T>::kParts; ++i) {
        fetch<float, kWide>(from + 4 * i, share.valid - 4 * i, to.dt[i][thread]);
      }
    } else {
      fetch<T, kWide>(ScanRows<T>(p.in.dt, batch, channel).at(pos), share.valid,
                      reinterpret_cast<RawVector<T>&>(to.dt[0][thread]));
    }
    if (!RawRow<T, Tile>::exists(thread)) return;
    int n;
    const T* row = RawRow<T, Tile>::address(p.in, pass.first, thread, batch, first, end, n);
    if (pass.wide_rows) {
      fetch<T, true>(row, 0, to.rows[thread]);
    } else {
      fetch<T, false>(row, static_cast<int>(p.in.d_state) - n, to.rows[thread]);
    }
  }

  __device__ __forceinline__ void stage(const ScanArrivals<T>& from, int first,
                                        ScanBuffer<Tile>& to) const {
    float dt[kVec], x[kVec];
    RawDt<T> raw_dt;
#pragma unroll
    for (int i = 0; i < RawDt<T>::kParts; ++i) raw_dt.parts[i] = from.dt[i][thread];
    raw_dt.unpack(p.in, shared.dt_bias + share.first(), first + share.step < end, dt);
    from.x[thread].unpack(x);
#pragma unroll
    for (int i = 0; i < kVec; i += 2) {
      to.steps[share.step][swizzled_pair((share.first() + i) / 2)] =
          make_float4(dt[i], dt[i] * x[i], dt[i + 1], dt[i + 1] * x[i + 1]);
    }
    if (!RawRow<T, Tile>::exists(thread)) return;
    RawRow<T, Tile>{from.rows[thread]}.stage(thread, to.rows);
  }

  __device__ __forceinline__ void write(const ScanArrivals<T>& arrived, int first,
                                        const ScanBuffer<Tile>& from) const {
    const int pos = first + share.step;
    if (pos >= end || share.valid == 0) return;
    float y[kVec];
    gather_y<Tile>(from.partial[share.step], share.first(), y);
    const int64_t offset = (batch * p.in.pos + pos) * p.in.channels + share.channel;
    if (!pass.starts || !pass.ends) {
      float* sums = p.sums + offset;
#pragma unroll
      for (int i = 0; i < kVec; ++i) {
        if (i < share.valid && !pass.starts) y[i] += sums[i];
        if (i < share.valid && !pass.ends) sums[i] = y[i];
      }
      if (!pass.ends) return;
    }
    if (p.y != nullptr) store_some<T, kVec, kWide>(static_cast<T*>(p.y) + offset, y, share.valid);
    if (p.skip == nullptr && p.gated == nullptr) return;
    float x[kVec];
    arrived.x[thread].unpack(x);
#pragma unroll
    for (int i = 0; i < kVec; ++i) y[i] = fmaf(shared.D[share.first() + i], x[i], y[i]);
    if (p.skip != nullptr) {
      store_some<T, kVec, kWide>(static_cast<T*>(p.skip) + offset, y, share.valid);
    }
    if (p.gated == nullptr) return;
    float z[kVec];
    arrived.z[thread].unpack(z);
#pragma unroll
    for (int i = 0; i < kVec; ++i) y[i] *= silu_fast(z[i]);
    store_some<T, kVec, kWide>(static_cast<T*>(p.gated) + offset, y, share.valid);
  }

  /// Tiles begin, begin + kSteps, ..: each is sent for, staged, and written two tiles later.
  template <bool kCarry>
  __device__ __forceinline__ void run(int begin) const {
    constexpr int kSteps = Tile::kSteps;
    const bool gated = !kCarry && p.gated != nullptr;
    int far = 0, near = 0, last = 0;  // places in the ring: to load, to stage, to write
    const auto turn = [](int& place) { place = place + 1 == kScanRing ? 0 : place + 1; };
    const auto send = [&](int first) {
      if (first < end) load(first, gated, shared.ring[far]);
      copies_commit();
      turn(far);
    };
#pragma unroll 1
    for (int i = 0; i < kScanAhead; ++i) send(begin + i * kSteps);
#pragma unroll 1
    for (int first = begin, buffer = 0; first < end + 2 * kSteps; first += kSteps, buffer ^= 1) {
      const int ready = first - 2 * kSteps;  // the tile that this one follows in its buffer
      if (ready >= begin) {
        if (!kCarry) write(shared.ring[last], ready, shared.buffers[buffer]);
        turn(last);
      }
      if (first < end) {
        copies_wait<kScanAhead - 1>();
        stage(shared.ring[near], first, shared.buffers[buffer]);
        turn(near);
        send(first + kScanAhead * kSteps);
      }
      if (first - kSteps < end) next_round();
    }
  }
};

/// What a thread reads for one position: dt and dt x of its channels, its states' B and C.
template <typename Tile>
struct ScanStep {
  float4 step, B, C;
  __device__ __forceinline__ void load(const ScanBuffer<Tile>& from, int t, int pair, int lane) {
    step = from.steps[t][swizzled_pair(pair)];
    const float4* row = reinterpret_cast<const float4*>(from.rows[t] + lane * 2 * Tile::kStates);
    B = row[0], C = row[1];
  }
};

/// exp(dt A) of both channels, A in units of log 2.
__device__ __forceinline__ void decays(const float4& step, const float (&A)[2][4],
                                       float (&to)[2][4]) {
#pragma unroll
  for (int s = 0; s < 4; ++s) to[0][s] = exp2_fast(step.x * A[0][s]);
#pragma unroll
  for (int s = 0; s < 4; ++s) to[1][s] = exp2_fast(step.z * A[1][s]);
}

/// h = decay h + u B
__device__ __forceinline__ void advance(const float (&decay)[4], float u, const float4& B,
                                        float (&h)[4]) {
  h[0] = fmaf(decay[0], h[0], u * B.x);
  h[1] = fmaf(decay[1], h[1], u * B.y);
  h[2] = fmaf(decay[2], h[2], u * B.z);
  h[3] = fmaf(decay[3], h[3], u * B.w);
}

__device__ __forceinline__ float dot(const float (&h)[4], const float4& C) {
  return fmaf(h[3], C.w, fmaf(h[2], C.z, fmaf(h[1], C.y, h[0] * C.x)));
}

/// The positions of one tile. One warp may have a scheduler for itself: so what a position needs is
/// read two positions before, and its exponentials are taken one before.
template <typename Tile, bool kCarry>
__device__ __forceinline__ void advance_tile(ScanBuffer<Tile>& buffer,
                                             const ScanOwner<Tile, 2>& owner,
                                             const float (&A)[2][4], float (&h)[2][4],
                                             float (&dt_sum)[2]) {
  constexpr int kSteps = Tile::kSteps;
  const int unit = swizzled_channel(2 * owner.index + owner.lane / 2);
  ScanStep<Tile> steps[3];
  float decay[2][2][4];
  steps[0].load(buffer, 0, owner.index, owner.lane);
  steps[1].load(buffer, 1, owner.index, owner.lane);
  decays(steps[0].step, A, decay[0]);
#pragma unroll
  for (int t = 0; t < kSteps; ++t) {
    const ScanStep<Tile>& now = steps[t % 3];
    if (t + 2 < kSteps) steps[(t + 2) % 3].load(buffer, t + 2, owner.index, owner.lane);
    if (t + 1 < kSteps) decays(steps[(t + 1) % 3].step, A, decay[(t + 1) % 2]);
    advance(decay[t % 2][0], now.step.y, now.B, h[0]);
    advance(decay[t % 2][1], now.step.w, now.B, h[1]);
    if (kCarry) {
      dt_sum[0] += now.step.x, dt_sum[1] += now.step.z;
    } else {
      reinterpret_cast<float2*>(&buffer.partial[t][unit])[owner.lane % 2] =
          make_float2(dot(h[0], now.C), dot(h[1], now.C));
    }
  }
}

/// kCarry: only the states that a piece which starts from zeros leaves, and its sums of dt.
template <typename T, bool kWide, bool kCarry>
__global__ void __launch_bounds__(kScanBlock, 2)
    scan_forward_kernel(const ScanForwardParams p, const ScanPass pass) {
  extern __shared__ __align__(16) unsigned char bytes[];
  using Tile = ScanTile<T>;
  auto& shared = *reinterpret_cast<ScanShared<T>*>(bytes);
  const ScanInputs& in = p.in;
  const int batch = static_cast<int>(blockIdx.y), piece = static_cast<int>(blockIdx.z);
  const int begin = piece * pass.length, end = min(begin + pass.length, static_cast<int>(in.pos));
  const int first_channel = static_cast<int>(blockIdx.x) * Tile::kChannels;
  if (threadIdx.x < Tile::kChannels) {
    const int c = static_cast<int>(threadIdx.x), channel = first_channel + c;
    const bool inside = channel < static_cast<int>(in.channels);
    shared.D[c] = in.D != nullptr && inside ? in.D[channel] : 0;
    shared.dt_bias[c] = in.dt_bias != nullptr && inside ? in.dt_bias[channel] : 0;
  }
  __syncthreads();
  if (threadIdx.x >= Tile::kThreads) {
    const int thread = static_cast<int>(threadIdx.x) - Tile::kThreads;
    const ScanProducer<T, kWide> producer{
        p,
        pass,
        shared,
        thread,
        batch,
        end,
        ScanShare<Tile>(thread, first_channel, static_cast<int>(in.channels))};
    producer.template run<kCarry>(begin);
    return;
  }
  const ScanOwner<Tile, 2> owner(static_cast<int>(threadIdx.x), first_channel, pass.first, in);
  const int64_t state_size = in.channels * in.d_state;
  float* carry = p.carry + (int64_t{batch} * pass.pieces + piece) * state_size;
  float A[2][4], h[2][4], dt_sum[2] = {0, 0};
  owner.load(in.A, in.d_state, kLog2E, A);
  const float* start = in.state == nullptr ? nullptr : in.state + batch * state_size;
  owner.load(kCarry ? nullptr : pass.pieces > 1 ? carry : start, in.d_state, 1, h);
  const int64_t saves = (in.pos + kScanSaveEvery - 1) / kScanSaveEvery;
  next_round();
#pragma unroll 1
  for (int first = begin, buffer = 0; first < end; first += Tile::kSteps, buffer ^= 1) {
    if (!kCarry && p.saved != nullptr && first % static_cast<int>(kScanSaveEvery) == 0) {
      owner.store(h, in.d_state, p.saved + (batch * saves + first / kScanSaveEvery) * state_size);
    }
    advance_tile<Tile, kCarry>(shared.buffers[buffer], owner, A, h, dt_sum);
    next_round();
  }
  if (kCarry) {
    owner.store(h, in.d_state, carry);
    float* sums = p.dt_sums + (int64_t{batch} * pass.pieces + piece) * in.channels + owner.channel;
    if (owner.lane == 0 && pass.starts) {
      if (owner.states[0] > 0) sums[0] = dt_sum[0];
      if (owner.states[1] > 0) sums[1] = dt_sum[1];
    }
  } else if (p.state != nullptr && end == in.pos) {
    owner.store(h, in.d_state, p.state + batch * state_size);
  }
}

/// The states that enter each piece, in the place of those that it leaves.
__global__ void __launch_bounds__(256) scan_combine_kernel(const ScanForwardParams p, int pieces) {
  const ScanInputs& in = p.in;
  const int64_t size = in.channels * in.d_state, at = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (at >= size) return;
  const int64_t batch = blockIdx.y, channel = at / in.d_state;
  const float A = in.A[at] * kLog2E;
  float* carry = p.carry + batch * pieces * size + at;
  const float* sums = p.dt_sums + batch * pieces * in.channels + channel;
  float h = in.state != nullptr ? in.state[batch * size + at] : 0;
  for (int from = 0; from < pieces; from += kScanCombined) {
    float left[kScanCombined], decay[kScanCombined];
#pragma unroll
    for (int i = 0; i < kScanCombined; ++i) {
      const int piece = from + i;
      const bool read = piece + 1 < pieces;
      left[i] = read ? carry[piece * size] : 0;
      decay[i] = read ? exp2_fast(A * sums[piece * in.channels]) : 0;
    }
#pragma unroll
    for (int i = 0; i < kScanCombined; ++i) {
      if (from + i < pieces) carry[(from + i) * size] = h;
      h = fmaf(decay[i], h, left[i]);
    }
  }
}

}  // namespace headlens
