// headlens/kernels: the Mamba-2 scan over whole sequences.
#include "ssd_scan.h"

#include <algorithm>

#include "ssd_scan_warpgroup.cuh"

namespace headlens {
namespace {

/// Rows 16 strip .. of the chunk's C B^T, but for blocks of the future.
template <typename T, int kStates>
__device__ void make_scores(float (&scores)[kSsdChunk / 8][4], const ScanShared<kStates, 1>& s,
                            int strip) {
#pragma unroll
  for (int k = 0; k < kStates / 16; ++k) {
    uint32_t c[4], b[4];
    load_matrices(c, straight_address(s.C, 16 * strip, 16 * k));
#pragma unroll
    for (int n = 0; n < kSsdChunk / 16; ++n) {
      if (n > strip) break;
      load_matrices(b, crossed_address(s.B, 16 * n, 16 * k));
      mma<T>(scores[2 * n], c, b[0], b[1]);
      mma<T>(scores[2 * n + 1], c, b[2], b[3]);
    }
  }
}

/// y^T = decay from the chunk's start times (state C^T), of this warp's 16 rows of d_head.
template <typename T, int kStates>
__device__ void read_state(float (&y)[kSsdChunk / 8][4], const StateRows<kStates>& state,
                           const ScanShared<kStates, 1>& s, const ChunkDecays& d) {
#pragma unroll
  for (int k = 0; k < kStates / 16; ++k) {
    uint32_t a[4], c[4];
    state.template operand<T>(a, k);
#pragma unroll
    for (int n = 0; n < kSsdChunk / 16; ++n) {
      load_matrices(c, crossed_address(s.C, 16 * n, 16 * k));
      mma<T>(y[2 * n], a, c[0], c[1]);
      mma<T>(y[2 * n + 1], a, c[2], c[3]);
    }
  }
  decay_from_start(y, d);
}

/// y^T += x^T map^T; the state takes the chunk in.
template <typename T, int kStates>
__device__ void take_in(float (&y)[kSsdChunk / 8][4], StateRows<kStates>& state,
                        const ScanShared<kStates, 1>& s, const ChunkDecays& d) {
  state.scale(d.from[kSsdChunk - 1]);
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
    uint32_t columns[4], m[4];
    load_columns(columns, s.x, k);
#pragma unroll
    for (int n = k; n < kSsdChunk / 16; ++n) {
      load_matrices(m, crossed_address(s.map, 16 * n, 16 * k));
      mma<T>(y[2 * n], columns, m[0], m[1]);
      mma<T>(y[2 * n + 1], columns, m[2], m[3]);
    }
    scale_columns<T>(columns, d.weight, k);
    add_outer<T>(state, columns, s.B, k);
  }
}

/// Map, y and state of one chunk.
template <typename T, int kStates>
__device__ __forceinline__ void scan_chunk(float (&y)[kSsdChunk / 8][4], StateRows<kStates>& state,
                                           const ScanShared<kStates, 1>& s, const ChunkDecays& d,
                                           int chunk, float D) {
  // Later strips have more to do: warps, tied to one scheduler each, take turns.
  const int strip = (threadIdx.x / 32 + chunk) & 3;
  float scores[kSsdChunk / 8][4] = {};
  make_scores<T>(scores, s, strip);
  write_map<T>(s.map, scores, d, strip, D);
#pragma unroll
  for (auto& v : y) v[0] = v[1] = v[2] = v[3] = 0.0f;
  read_state<T>(y, state, s, d);
  __syncthreads();  // the map is whole; the last y is read
  take_in<T>(y, state, s, d);
}

/// One segment of one tile of one head; grid (tile, segment, batch).
template <typename T, int kStates>
__global__ void __launch_bounds__(kSsdThreads, kStates > 128 ? 1 : 2)
    ssd_scan_kernel(const SsdParams p, const SsdPlan plan, const SsdSweep sweep) {
  extern __shared__ __align__(1024) char shared[];
  __shared__ ChunkDecays decays[2];
  const SsdPlace at(p, plan, blockIdx.z);
  const int per_segment = plan.chunks_per_piece * plan.pieces_per_segment;
  const int begin = blockIdx.y * per_segment, end = min(begin + per_segment, plan.chunks);
  const int warp = threadIdx.x / 32;
  const float D = p.D != nullptr ? p.D[at.head] : 0.0f;

  DecayRegs next;
  const auto fetch = [&](int chunk) {
    ScanShared<kStates, 1>(shared, chunk & 1).template load<T>(p, at, chunk);
    if (warp == (chunk & 3)) next.load(p, at.batch, at.head, chunk * kSsdChunk);
  };
  fetch(begin);
  if (warp == (begin & 3)) next.sum_up(decays[begin & 1]);
  StateRows<kStates> state;
  enter(state, p, plan, at, sweep, blockIdx.y * plan.pieces_per_segment);
  for (int chunk = begin; chunk < end; ++chunk) {
    copy_async_wait<0>();
    __syncthreads();  // the chunk is here; the last one's map is read, its y written
    const ScanShared<kStates, 1> s(shared, chunk & 1);
    const ChunkDecays& d = decays[chunk & 1];
    if (chunk > begin) write_y<T>(p, at, s.y, chunk - 1);
    if (chunk + 1 < end) fetch(chunk + 1);
    float y[kSsdChunk / 8][4];
    scan_chunk<T>(y, state, s, d, chunk, D);
    put_y<T>(s.y, y);
    if (chunk + 1 < end && warp == ((chunk + 1) & 3)) next.sum_up(decays[(chunk + 1) & 1]);
  }
  __syncthreads();
  write_y<T>(p, at, ScanShared<kStates, 1>(shared, 0).y, end - 1);
  if (end == plan.chunks) {
    state.store(const_cast<float*>(head_state(sweep.last, p, at)), at.first_row, p.d_head,
                p.d_state);
  }
}

/// A property of the current device, at least 0.
int device_property(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
}

/// Whether the code that this device runs has the kernel's body: that for sm_90a does, which then
/// has shared memory of its own.
template <typename Kernel>
bool is_compiled(Kernel* kernel) {
  cudaFuncAttributes attributes{};
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess &&
         attributes.sharedSizeBytes > 0;
}

template <typename T, int kStates>
cudaError_t launch(const SsdParams& p, cudaStream_t stream) {
  const SsdPlan plan = ssd_plan(p);
  SsdSweeps sweeps{};
  SsdSweep& sweep = sweeps.of[0];
  sweep.u = p.x, sweep.v = p.B, sweep.first = p.state_in, sweep.last = p.state_out;
  const int64_t pieces = int64_t(p.batch) * p.heads * plan.tiles * plan.pieces();
  sweep.piece_states = p.workspace;
  sweep.piece_decays = p.workspace + pieces * kSsdTile * kStates;
  if (plan.segments > 1) {
    const cudaError_t error = launch_sweeps<T, kStates, false>(p, plan, sweeps, 1, stream);
    if (error != cudaSuccess) return error;
  }
  const dim3 grid(p.heads * plan.tiles, plan.segments, p.batch);
  if constexpr (kStates <= 128) {
    if (is_compiled(&ssd_scan_warpgroup_kernel<T, kStates>)) {
      return launch_with_shared(&ssd_scan_warpgroup_kernel<T, kStates>, grid, kScanThreads,
                                ScanShared<kStates, 2>::kBytes, stream, p, plan, sweep);
    }
  }
  return launch_with_shared(&ssd_scan_kernel<T, kStates>, grid, kSsdThreads,
                            ScanShared<kStates, 1>::kBytes, stream, p, plan, sweep);
}

int padded_states(const SsdParams& p) {
  return p.d_state > 128 ? 256 : p.d_state > 64 ? 128 : 64;
}

int rounded_up(int a, int b) {
  return (a + b - 1) / b;
}

}  // namespace

int ssd_multiprocessors() {
  return std::max(device_property(cudaDevAttrMultiProcessorCount), 1);
}

SsdPlan ssd_plan(const SsdParams& p, int sweeps) {
  SsdPlan plan{};
  plan.chunks = rounded_up(p.pos, kSsdChunk);
  plan.tiles = rounded_up(p.d_head, kSsdTile);
  const int64_t columns = int64_t(p.batch) * p.heads * plan.tiles * sweeps;
  // Blocks a multiprocessor holds: of the scan, or of sweeps alone.
  const int held = padded_states(p) > 128 ? 1 : sweeps == 1 ? 2 : 3;
  const int64_t slots = int64_t(ssd_multiprocessors()) * held;
  // In units of a chunk's time; entering a segment costs about one, and the sum over a chunk that
  // another segment needs 0.35 of a scan's, 0.6 of a sweep's.
  const double sum_cost = sweeps == 1 ? 0.35 : 0.6;
  double least = 1e30;
  for (int segments = 1; segments <= std::min(plan.chunks, 16); ++segments) {
    const int each = rounded_up(plan.chunks, segments);
    const int64_t waves = (columns * segments + slots - 1) / slots;
    const double sums = sum_cost * each * double(segments - 1) * columns / slots;
    const double cost = waves * (each + 1.0) + sums + (segments > 1 ? 1.0 : 0.0);
    if (cost >= least) continue;
    least = cost;
    plan.segments = segments;
  }
  const int each = rounded_up(plan.chunks, plan.segments);
  // Pieces fill the machine where whole segments would not.
  const int64_t blocks = columns * std::max(plan.segments - 1, 1);
  plan.pieces_per_segment = std::max<int64_t>(
      1, std::min<int64_t>({rounded_up(each, 2), 8, 4 * int64_t(ssd_multiprocessors()) / blocks}));
  plan.chunks_per_piece = rounded_up(each, plan.pieces_per_segment);
  plan.segments = rounded_up(plan.chunks, plan.chunks_per_piece * plan.pieces_per_segment);
  return plan;
}

bool ssd_scan_supports(const SsdParams& p) {
  return p.dtype != KernelDtype::Float32 && p.d_head % 8 == 0 && p.d_state % 8 == 0 &&
         p.d_state <= 256 && p.batch <= 32767;
}

size_t ssd_scan_workspace(const SsdParams& p) {
  const SsdPlan plan = ssd_plan(p);
  return sizeof(float) * size_t(p.batch) * p.heads * plan.tiles * plan.pieces() *
         (kSsdTile * padded_states(p) + 1);
}

cudaError_t launch_ssd_scan(const SsdParams& p, cudaStream_t stream) {
  if (!ssd_scan_supports(p)) return cudaErrorInvalidValue;
  const int states = padded_states(p);
  const auto run = [&](auto t) {
    using T = decltype(t);
    if (states == 64) return launch<T, 64>(p, stream);
    if (states == 128) return launch<T, 128>(p, stream);
    return launch<T, 256>(p, stream);
  };
  return p.dtype == KernelDtype::Float16 ? run(__half()) : run(__nv_bfloat16());
}

}  // namespace headlens
