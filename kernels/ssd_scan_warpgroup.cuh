// headlens/kernels: the Mamba-2 scan on Hopper, one warpgroup making maps, one carrying the state.
#pragma once

#include "ssd_scan_shared.cuh"

namespace headlens {

constexpr int kScanThreads = 2 * kSsdThreads;

#ifdef HEADLENS_SSD_WGMMA

// Named barriers, two of a kind, a chunk's by its parity. kFull: the makers arrive, the carriers
// wait for tiles, decays and map; kEmpty: the carriers arrive, the makers wait to write them anew.
enum ScanBarrier { kFull = 1, kEmpty = 3, kMakers = 5, kCarriers = 6 };

__device__ __forceinline__ void barrier_sync(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
__device__ __forceinline__ void barrier_arrive(int barrier, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/// Loads chunks and their decays, and makes the maps.
template <typename T, int kStates>
__device__ __forceinline__ void make_maps(const SsdParams& p, const SsdPlace& at,
                                          const char* shared, ChunkDecays* decays, int begin,
                                          int end) {
  using Shared = ScanShared<kStates, 2>;
  const int warp = tile_warp();
  const float D = p.D != nullptr ? p.D[at.head] : 0.0f;
  DecayRegs next;
  const auto fetch_decays = [&](int chunk) {
    if (chunk < end && warp == (chunk & 3)) {
      next.load(p, at.batch, at.head, chunk * kSsdChunk);
    }
  };
  const auto fetch = [&](int chunk) {
    Shared(shared, chunk & 1).template load<T>(p, at, chunk);
    if (warp == (chunk & 3)) next.sum_up(decays[chunk & 1]);
    fetch_decays(chunk + 1);
    if (chunk + 1 < end) prefetch_chunk<T, kStates>(p, at, chunk + 1);
  };
  fetch_decays(begin);
  fetch(begin);
  clear_map<kSsdThreads>(Shared(shared, 0).map);
  clear_map<kSsdThreads>(Shared(shared, 1).map);
  for (int chunk = begin; chunk < end; ++chunk) {
    const Shared s(shared, chunk & 1);
    copy_async_wait<0>();
    fence_for_warpgroup();
    barrier_sync(kMakers, kSsdThreads);
    float scores[kSsdChunk / 8][4];
    warpgroup_fence();
#pragma unroll
    for (int k = 0; k < kStates / 16; ++k) {
      const uint32_t step = k / 4 * kPanelBytes + k % 4 * 32;
      warpgroup_mma<T, 0, 0>(scores, warpgroup_tile(s.C + step), warpgroup_tile(s.B + step), k > 0);
    }
    warpgroup_commit();
    warpgroup_wait<0>();
    write_map<T>(s.map, scores, decays[chunk & 1], warp, D);
    fence_for_warpgroup();
    barrier_arrive(kFull + (chunk & 1), kScanThreads);
    if (chunk + 1 == end) break;
    if (chunk > begin) barrier_sync(kEmpty + ((chunk + 1) & 1), kScanThreads);
    fetch(chunk + 1);
  }
}

/// y^T = state C^T, the state's columns 64 at a time, of which only 64 are held as operands; while
/// the first are under way, `meanwhile` runs. Waits for barrier `full`; the state decays over the
/// chunk.
template <typename T, int kStates, typename F>
__device__ __forceinline__ void start_read(float (&y)[kSsdChunk / 8][4], StateRows<kStates>& state,
                                           const ScanShared<kStates, 2>& s, const ChunkDecays& d,
                                           int full, F&& meanwhile) {
#pragma unroll
  for (int panel = 0; panel < kStates / 64; ++panel) {
    uint32_t rows[4][4];
    if (panel > 0) warpgroup_wait<0>();
#pragma unroll
    for (int k = 0; k < 4; ++k) state.template operand<T>(rows[k], 4 * panel + k);
    if (panel == 0) barrier_sync(full, kScanThreads);
    if (panel + 1 == kStates / 64) state.scale(d.from[kSsdChunk - 1]);
    warpgroup_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      warpgroup_mma<T, 0>(y, rows[k], warpgroup_tile(s.C + panel * kPanelBytes + k * 32),
                          panel + k > 0);
    }
    warpgroup_commit();
    if (panel == 0) meanwhile();
  }
}

/// y^T = decay from the chunk's start times (state C^T) + x^T map^T; the state takes the chunk in.
template <typename T, int kStates>
__device__ __forceinline__ void carry_chunk(float (&y)[kSsdChunk / 8][4], StateRows<kStates>& state,
                                            const ScanShared<kStates, 2>& s, const ChunkDecays& d,
                                            int full) {
  uint32_t columns[kSsdChunk / 16][4];
  start_read<T>(y, state, s, d, full, [&] {
#pragma unroll
    for (int k = 0; k < kSsdChunk / 16; ++k) {
      load_columns(columns[k], s.x, k);
      scale_columns<T>(columns[k], d.weight, k);
    }
  });
  warpgroup_fence();
  start_outer<T>(state, columns, s.B);
  warpgroup_wait<1>();
  decay_from_start(y, d);
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) load_columns(columns[k], s.x, k);
  warpgroup_fence();
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
    warpgroup_mma<T, 0>(y, columns[k], warpgroup_tile(s.map + 32 * k), true);
  }
  warpgroup_commit();
  warpgroup_wait<0>();
}

template <typename T, int kStates>
__device__ __forceinline__ void carry_state(const SsdParams& p, const SsdPlan& plan,
                                            const SsdPlace& at, const SsdSweep& sweep,
                                            const char* shared, const ChunkDecays* decays,
                                            int begin, int end) {
  StateRows<kStates> state;
  enter(state, p, plan, at, sweep, blockIdx.y * plan.pieces_per_segment);
  for (int chunk = begin; chunk < end; ++chunk) {
    const ScanShared<kStates, 2> s(shared, chunk & 1);
    float y[kSsdChunk / 8][4];
    carry_chunk<T>(y, state, s, decays[chunk & 1], kFull + (chunk & 1));
    if (chunk + 2 < end) barrier_arrive(kEmpty + (chunk & 1), kScanThreads);
    put_y<T>(s.y, y);  // the last y was read before kFull
    barrier_sync(kCarriers, kSsdThreads);
    write_y<T>(p, at, s.y, chunk);
  }
  if (end == plan.chunks) {
    state.store(const_cast<float*>(head_state(sweep.last, p, at)), at.first_row, p.d_head,
                p.d_state);
  }
}

template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#endif  // HEADLENS_SSD_WGMMA

/// One segment of one tile of one head; grid (tile, segment, batch).
template <typename T, int kStates>
__global__ void __launch_bounds__(kScanThreads, 2)
    ssd_scan_warpgroup_kernel(const SsdParams p, const SsdPlan plan, const SsdSweep sweep) {
#ifdef HEADLENS_SSD_WGMMA
  extern __shared__ __align__(1024) char shared[];
  __shared__ ChunkDecays decays[2];
  const SsdPlace at(p, plan, blockIdx.z);
  const int per_segment = plan.chunks_per_piece * plan.pieces_per_segment;
  const int begin = blockIdx.y * per_segment, end = min(begin + per_segment, plan.chunks);
  if (threadIdx.x < kSsdThreads) {
    give_registers<(kStates > 64) ? 88 : 104>();
    make_maps<T, kStates>(p, at, shared, decays, begin, end);
  } else {
    take_registers<(kStates > 64) ? 168 : 152>();
    carry_state<T, kStates>(p, plan, at, sweep, shared, decays, begin, end);
  }
#endif
}

}  // namespace headlens
