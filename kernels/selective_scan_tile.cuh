// headlens/kernels: how blocks of the selective scan divide their work, and read their tiles.
#pragma once

#include "common/raw.cuh"
#include "selective_scan.h"

namespace headlens {

/// A block has kChannels channels. kLanes neighbouring threads share the states of one channel, or
/// of a pair of them, kStates states each. A tile is kSteps positions, of which each of kThreads
/// threads loads one 16-byte vector.
template <typename T>
struct ScanTile {
  static constexpr int kThreads = 128;
  static constexpr int kStates = 4;
  static constexpr int kLanes = static_cast<int>(kScanStates) / kStates;
  static constexpr int kChannels = 64;
  static constexpr int kPairs = kChannels / 2;
  static constexpr int kVec = 16 / sizeof(T);
  static constexpr int kGroups = kChannels / kVec;  // vectors in a row of the tile
  static constexpr int kSteps = kThreads / kGroups;
  // A row of B and C: for each lane its B then its C. The padding spreads rows over the banks.
  static constexpr int kRow = 2 * static_cast<int>(kScanStates) + 4;
  static constexpr int kRowVecs = 2 * static_cast<int>(kScanStates) / kVec;
  static_assert(kSteps * kRowVecs <= kThreads, "a thread loads at most one vector of B or C");
};

/// Pieces whose carries are read at once, before any is replaced.
constexpr int kScanCombined = 8;

/// Whether all rows may be read in 16-byte vectors of elements of `size` bytes.
inline bool aligned(const void* data, int64_t batch_stride, int64_t pos_stride, int64_t size) {
  const int64_t vector = 16 / size;
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && batch_stride % vector == 0 &&
         pos_stride % vector == 0;
}
inline bool aligned(const ScanView& view, int64_t size) {
  return aligned(view.data, view.batch_stride, view.pos_stride, size);
}

/// Positions of a piece: whole intervals between saved states.
inline int scan_piece_length(int64_t pos, int64_t pieces) {
  const int64_t length = (pos + pieces - 1) / pieces;
  return static_cast<int>((length + kScanSaveEvery - 1) / kScanSaveEvery * kScanSaveEvery);
}

/// Where pair `p` of a row of 16-byte units goes, one unit a pair: neighbouring vectors' units are
/// written at once and must not meet in a bank; likewise for one unit a channel.
__device__ __forceinline__ int swizzled_pair(int p) {
  return p ^ ((p >> 3) & 3);
}
__device__ __forceinline__ int swizzled_channel(int c) {
  return c ^ ((c >> 3) & 7);
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

constexpr float kLog2E = 1.4426950408889634f;

/// log(1 + exp(x)) = max(x, 0) + log1p(e), e = exp(-|x|), and log1p(e) = 2 artanh(e / (2 + e)):
/// a series in a quotient of at most 1/3, exact to float32 where x is very negative too.
__device__ __forceinline__ float softplus(float x) {
  const float e = exp2_fast(-kLog2E * fabsf(x)), s = __fdividef(e, 2.0f + e), q = s * s;
  float series = 1.0f / 11;
  series = fmaf(series, q, 1.0f / 9);
  series = fmaf(series, q, 1.0f / 7);
  series = fmaf(series, q, 1.0f / 5);
  series = fmaf(series, q, 1.0f / 3);
  series = fmaf(series, q, 1.0f);
  return fmaf(2 * s, series, fmaxf(x, 0.0f));
}

/// 16 bytes of T.
template <typename T>
using RawVector = Raw<T, 16 / static_cast<int>(sizeof(T))>;

/// The elements at `from`, of which the first `valid` exist; kWide: all of them, and aligned.
template <typename T, bool kWide>
__device__ __forceinline__ RawVector<T> load_raw(const T* from, int valid) {
  if constexpr (kWide) {
    return RawVector<T>::load(from);
  } else {
    return RawVector<T>::load_some(from, valid);
  }
}

template <typename T, int N, bool kWide>
__device__ __forceinline__ void store_some(T* to, const float (&values)[N], int valid) {
  const auto raw = Raw<T, N>::pack(values);
  if constexpr (kWide) {
    raw.store(to);
  } else {
    raw.store_some(to, valid);
  }
}

/// A thread's share of a tile: channels channel .. channel + valid - 1 at position `step`.
template <typename Tile>
struct ScanShare {
  int step, group, valid, channel;
  __device__ __forceinline__ ScanShare(int thread, int first_channel, int channels)
      : step(thread / Tile::kGroups), group(thread % Tile::kGroups) {
    channel = first_channel + group * Tile::kVec;
    valid = min(max(channels - channel, 0), Tile::kVec);
    if (valid == 0) channel = 0;  // what is read there is not used
  }
  __device__ __forceinline__ int first() const { return group * Tile::kVec; }
};

/// 16 bytes from global to shared memory, which arrive by themselves.
__device__ __forceinline__ void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
__device__ __forceinline__ void copies_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits until all but the last kPending groups of this thread have arrived.
template <int kPending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

/// Rows of a view: elements at one batch and channel, position by position.
template <typename T>
struct ScanRows {
  const T* base;
  int stride;
  __device__ __forceinline__ ScanRows(const ScanView& view, int batch, int column)
      : base(static_cast<const T*>(view.data) + batch * view.batch_stride + column),
        stride(static_cast<int>(view.pos_stride)) {}
  __device__ __forceinline__ const T* at(int pos) const {
    return base + static_cast<int64_t>(pos) * stride;
  }
};

/// dt as it is stored: float32 or T, which then fills the first vector only.
template <typename T>
struct RawDt {
  static constexpr int kVec = 16 / sizeof(T), kParts = kVec / 4;
  RawVector<float> parts[kParts];

  static __device__ __forceinline__ bool is_float(const ScanInputs& in) {
    return sizeof(T) == 4 || in.dt_dtype == KernelDtype::Float32;
  }

  template <bool kWide>
  __device__ __forceinline__ void load(const ScanInputs& in, int batch, int pos, int channel,
                                       int valid) {
    if (is_float(in)) {
      const float* from = ScanRows<float>(in.dt, batch, channel).at(pos);
#pragma unroll
      for (int i = 0; i < kVec / 4; ++i) {
        parts[i] = load_raw<float, kWide>(from + 4 * i, valid - 4 * i);
      }
    } else {
      const auto raw = load_raw<T, kWide>(ScanRows<T>(in.dt, batch, channel).at(pos), valid);
#pragma unroll
      for (int i = 0; i < 4; ++i) parts[0].words[i] = raw.words[i];
    }
  }

  /// With bias and softplus; zeros, which neither decay nor add, for a position not there.
  __device__ __forceinline__ void unpack(const ScanInputs& in, const float* bias, bool exists,
                                         float (&dt)[kVec]) const {
    if (is_float(in)) {
#pragma unroll
      for (int i = 0; i < kVec; ++i) dt[i] = __uint_as_float(parts[i / 4].words[i % 4]);
    } else {
      RawVector<T> raw;
#pragma unroll
      for (int i = 0; i < 4; ++i) raw.words[i] = parts[0].words[i];
      raw.unpack(dt);
    }
    if (in.dt_bias != nullptr) {
#pragma unroll
      for (int i = 0; i < kVec; ++i) dt[i] += bias[i];
    }
    if (in.softplus) {
#pragma unroll
      for (int i = 0; i < kVec; ++i) dt[i] = softplus(dt[i]);
    }
#pragma unroll
    for (int i = 0; i < kVec; ++i) dt[i] = exists ? dt[i] : 0;
  }
};

/// A vector of B or C: thread `thread` loads one of the tile at `first`, if the tile has as many.
template <typename T, typename Tile>
struct RawRow {
  RawVector<T> values;

  static __device__ __forceinline__ bool exists(int thread) {
    return thread < Tile::kSteps * Tile::kRowVecs;
  }

  /// Where it is; `n` is the first of its states.
  static __device__ __forceinline__ const T* address(const ScanInputs& in, int first_state,
                                                     int thread, int batch, int first, int end,
                                                     int& n) {
    constexpr int kPerMatrix = Tile::kRowVecs / 2;
    const int part = thread % Tile::kRowVecs, pos = min(first + thread / Tile::kRowVecs, end - 1);
    n = first_state + part % kPerMatrix * Tile::kVec;
    return ScanRows<T>(part < kPerMatrix ? in.B : in.C, batch, n).at(pos);
  }

  __device__ __forceinline__ void load(const ScanInputs& in, int first_state, bool wide, int thread,
                                       int batch, int first, int end) {
    if (!exists(thread)) return;
    int n;
    const T* from = address(in, first_state, thread, batch, first, end, n);
    values = wide ? load_raw<T, true>(from, 0)
                  : load_raw<T, false>(from, static_cast<int>(in.d_state) - n);
  }

  /// Into shared memory, each lane's B before its C.
  __device__ __forceinline__ void stage(int thread, float (*to)[Tile::kRow]) const {
    constexpr int kPerMatrix = Tile::kRowVecs / 2, kStates = Tile::kStates;
    if (!exists(thread)) return;
    const int part = thread % Tile::kRowVecs, n = part % kPerMatrix * Tile::kVec;
    float* row = to[thread / Tile::kRowVecs] + 2 * n + part / kPerMatrix * kStates;
    float unpacked[Tile::kVec];
    values.unpack(unpacked);
#pragma unroll
    for (int i = 0; i < Tile::kVec; i += kStates) {
      *reinterpret_cast<float4*>(row + 2 * i) =
          make_float4(unpacked[i], unpacked[i + 1], unpacked[i + 2], unpacked[i + 3]);
    }
  }
};

/// A thread's states: lane `lane` of channels channel .. channel + kOwn - 1.
template <typename Tile, int kOwn>
struct ScanOwner {
  int index, lane, channel, n;
  int states[kOwn];  // how many of kStates exist, for each channel

  __device__ __forceinline__ ScanOwner(int thread, int first_channel, int first_state,
                                       const ScanInputs& in)
      : index(thread / Tile::kLanes), lane(thread % Tile::kLanes) {
    channel = first_channel + kOwn * index, n = first_state + lane * Tile::kStates;
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      const bool inside = channel + c < static_cast<int>(in.channels);
      states[c] = inside ? min(static_cast<int>(in.d_state) - n, Tile::kStates) : 0;
    }
  }

  /// From or to [channel, d_state] at `at`, times `factor`; zeros for what is not there.
  __device__ __forceinline__ void load(const float* at, int64_t d_state, float factor,
                                       float (&to)[kOwn][Tile::kStates]) const {
#pragma unroll
    for (int i = 0; i < kOwn * Tile::kStates; ++i) {
      const int c = i / Tile::kStates, s = i % Tile::kStates;
      to[c][s] = at != nullptr && s < states[c] ? at[(channel + c) * d_state + n + s] * factor : 0;
    }
  }
  __device__ __forceinline__ void store(const float (&from)[kOwn][Tile::kStates], int64_t d_state,
                                        float* at) const {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      float* to = at + (channel + c) * d_state + n;
      if (d_state % Tile::kStates == 0 && states[c] == Tile::kStates) {
        *reinterpret_cast<float4*>(to) =
            make_float4(from[c][0], from[c][1], from[c][2], from[c][3]);
        continue;
      }
#pragma unroll
      for (int s = 0; s < Tile::kStates; ++s) {
        if (s < states[c]) to[s] = from[c][s];
      }
    }
  }
};

}  // namespace headlens
