// headlens/kernels: the state of a Mamba-2 scan carried over chunks, alone.
#pragma once

#include "ssd_tiles.cuh"

namespace headlens {

/// A recurrence over chunks: state = decay state + (rows of u)^T (rows of v), each position
/// weighted with its decay to the chunk's end and dt; in reverse order (the gradient's), from its
/// start.
struct SsdSweep {
  SsdView u, v;
  bool reverse;
  const float* first;   // [batch, head, d_head, d_state] before the first chunk, or null
  float* last;          // the same after the last, or null
  float* piece_states;  // [batch, tile, piece] of 64 * kStates raw floats
  float* piece_decays;  // [batch, tile, piece]
  void* chunk_states;   // [batch, tile, chunk, 64, kStates]: the state that enters each chunk
};

struct SsdSweeps {
  SsdSweep of[2];
};

/// What a block works on.
struct SsdPlace {
  int batch, tile, head, first_row;  // tile: of all heads; first_row: of d_head
  int heads;                         // tiles of a batch entry

  __device__ SsdPlace(const SsdParams& p, const SsdPlan& plan, int batch)
      : batch(batch),
        tile(blockIdx.x),
        head(tile / plan.tiles),
        first_row(tile % plan.tiles * kSsdTile),
        heads(p.heads * plan.tiles) {}

  __device__ int64_t index() const { return int64_t(batch) * heads + tile; }
};

__device__ __forceinline__ const float* head_state(const float* states, const SsdParams& p,
                                                   const SsdPlace& at) {
  return states + (int64_t(at.batch) * p.heads + at.head) * p.d_head * p.d_state;
}

/// The state after the first `pieces` pieces.
template <int kStates>
__device__ void enter(StateRows<kStates>& state, const SsdParams& p, const SsdPlan& plan,
                      const SsdPlace& at, const SsdSweep& sweep, int pieces) {
  if (sweep.first != nullptr) {
    state.load(head_state(sweep.first, p, at), at.first_row, p.d_head, p.d_state);
  } else {
    state.fill(0.0f);
  }
  const int64_t before = at.index() * plan.pieces();
  for (int i = 0; i < pieces; ++i) {
    state.scale(sweep.piece_decays[before + i]);
    state.add_raw(sweep.piece_states + (before + i) * kSsdTile * kStates);
  }
}

template <int kStates>
struct SweepStage {
  static constexpr int kBytes = kPanelBytes * (1 + kStates / 64);
  uint32_t u, v;

  __device__ SweepStage(const char* shared, int i)
      : u(shared_address(shared) + i * kBytes), v(u + kPanelBytes) {}

  template <typename T>
  __device__ void load(const SsdParams& p, const SsdPlace& at, const SsdSweep& sweep, int chunk) {
    const int first = chunk * kSsdChunk, rows = p.pos - first;
    const T* u_rows = row_of<T>(sweep.u, at.batch, first, at.head) + at.first_row;
    const T* v_rows = row_of<T>(sweep.v, at.batch, first, at.head / (p.heads / p.groups));
    load_tile<1, kSsdThreads>(u, u_rows, sweep.u.pos, rows, p.d_head - at.first_row);
    load_tile<kStates / 64, kSsdThreads>(v, v_rows, sweep.v.pos, rows, p.d_state);
    copy_async_commit();
  }
};

/// kWhole: a segment from the state that enters it, storing those that enter its chunks; else a
/// piece from nothing. grid (tile, piece or segment, batch * sweeps).
template <typename T, int kStates, bool kWhole>
__global__ void __launch_bounds__(kSsdThreads, kStates > 128 ? 1
                                               : kWhole      ? 3
                                                             : 4)
    ssd_sweep_kernel(const SsdParams p, const SsdPlan plan, const SsdSweeps sweeps) {
  extern __shared__ __align__(1024) char shared[];
  __shared__ ChunkDecays decays[2];
  const SsdSweep& sweep = sweeps.of[blockIdx.z / p.batch];
  const SsdPlace at(p, plan, blockIdx.z % p.batch);
  const int per_block = plan.chunks_per_piece * (kWhole ? plan.pieces_per_segment : 1);
  const int begin = blockIdx.y * per_block, end = min(begin + per_block, plan.chunks);
  const int warp = threadIdx.x / 32;
  const auto chunk_of = [&](int i) { return sweep.reverse ? plan.chunks - 1 - i : i; };

  DecayRegs next;
  const auto fetch = [&](int i) {
    SweepStage<kStates>(shared, i & 1).template load<T>(p, at, sweep, chunk_of(i));
    if (warp == (i & 3)) next.load(p, at.batch, at.head, chunk_of(i) * kSsdChunk);
  };
  fetch(begin);
  if (warp == (begin & 3)) next.sum_up(decays[begin & 1]);

  StateRows<kStates> state;
  if (kWhole) {
    enter(state, p, plan, at, sweep, blockIdx.y * plan.pieces_per_segment);
  } else {
    state.fill(0.0f);
  }
  float decay = 1.0f;
  for (int i = begin; i < end; ++i) {
    copy_async_wait<0>();
    fence_for_warpgroup();
    __syncthreads();
    if (i + 1 < end) fetch(i + 1);
    if (kWhole) {
      state.template store_rounded<T>(static_cast<T*>(sweep.chunk_states) +
                                      (at.index() * plan.chunks + chunk_of(i)) * kSsdTile *
                                          kStates);
    }
    const SweepStage<kStates> stage(shared, i & 1);
    const ChunkDecays& d = decays[i & 1];
    const float* weight = sweep.reverse ? d.from : d.weight;
    decay *= d.from[kSsdChunk - 1];
    add_chunk<T>(state, stage.u, stage.v, d.from[kSsdChunk - 1], weight);
    if (i + 1 < end && warp == ((i + 1) & 3)) next.sum_up(decays[(i + 1) & 1]);
  }
  if (!kWhole) {
    const int64_t piece = at.index() * plan.pieces() + blockIdx.y;
    state.store_raw(sweep.piece_states + piece * kSsdTile * kStates);
    if (threadIdx.x == 0) sweep.piece_decays[piece] = decay;
  } else if (end == plan.chunks && sweep.last != nullptr) {
    state.store(const_cast<float*>(head_state(sweep.last, p, at)), at.first_row, p.d_head,
                p.d_state);
  }
}

/// Sets the shared memory a kernel asks for, then launches it.
template <typename Kernel, typename... Args>
cudaError_t launch_with_shared(Kernel* kernel, dim3 grid, int threads, int bytes,
                               cudaStream_t stream, const Args&... args) {
  const cudaError_t set =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (set != cudaSuccess) return set;
  kernel<<<grid, threads, bytes, stream>>>(args...);
  return cudaGetLastError();
}

template <typename T, int kStates, bool kWhole>
cudaError_t launch_sweeps(const SsdParams& p, const SsdPlan& plan, const SsdSweeps& sweeps,
                          int count, cudaStream_t stream) {
  const dim3 grid(p.heads * plan.tiles, kWhole ? plan.segments : plan.pieces(), p.batch * count);
  return launch_with_shared(&ssd_sweep_kernel<T, kStates, kWhole>, grid, kSsdThreads,
                            2 * SweepStage<kStates>::kBytes, stream, p, plan, sweeps);
}

}  // namespace headlens
