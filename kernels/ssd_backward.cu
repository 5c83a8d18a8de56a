// headlens/kernels: gradients of the Mamba-2 scan over whole sequences.
#include <algorithm>
#include <utility>

#include "common/vector.cuh"
#include "ssd_grad_block.cuh"

// On warpgroup products: waits until at most `pending` groups of this warpgroup are under way.
#ifdef HEADLENS_SSD_WGMMA
#define HEADLENS_SSD_WAIT(pending) warpgroup_wait<pending>()
#else
#define HEADLENS_SSD_WAIT(pending)
#endif

namespace headlens {
namespace {

/// dC += dscores B, dB += dscores^T C: what all heads of the block share.
template <typename T, int kStates>
__device__ void score_grads(const float (&dscores)[4][4], const GradShared<kStates>& s,
                            float (&dB)[kStates / 16][4], float (&dC)[kStates / 16][4]) {
  const MapPart part;
  const int strip = grad_strip(), first_column = grad_half() * kStates / 2;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    if (part.past(n)) part.store<T>(s.map, n, dscores[n]);
  }
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
    uint32_t a[4];
    if (k <= strip) {
      load_matrices(a, straight_address(s.map, 16 * strip, 16 * k));
      multiply_columns<T>(dC, a, s.B, k, first_column);
    }
    if (k >= strip) {
      load_matrices_transposed(a, crossed_address(s.map, 16 * k, 16 * strip));
      multiply_columns<T>(dB, a, s.C, k, first_column);
    }
  }
}

/// dx_j = sum_i map_ij dy_i + decay to the end * dt_j (gradient of the leaving state) B_j: the
/// second term, without its factors, is there.
template <typename T, int kStates>
__device__ void finish_x(float (&dx)[4][4], const GradShared<kStates>& s, const ChunkDecays& d) {
  const int strip = grad_strip(), half = grad_half(), row = 16 * strip + threadIdx.x % 32 / 4;
  const float low = d.weight[row], high = d.weight[row + 8];
#pragma unroll
  for (auto& v : dx) v[0] *= low, v[1] *= low, v[2] *= high, v[3] *= high;
#ifdef HEADLENS_SSD_WGMMA
  warpgroup_fence();
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
    const uint32_t rows = k * 16 * 128;
    warpgroup_mma<T, 1, 1>(dx, warpgroup_tile(s.map + rows),
                           warpgroup_tile(s.dy + rows + half * 64), true);
  }
  warpgroup_commit();
  warpgroup_wait<0>();
#else
#pragma unroll
  for (int k = 0; k < kSsdChunk / 16; ++k) {
    if (k < strip) continue;  // a position reaches only later ones
    uint32_t a[4];
    load_matrices_transposed(a, crossed_address(s.map, 16 * k, 16 * strip));
    multiply_columns<T>(dx, a, s.dy, k, 32 * half);
  }
#endif
}

/// change (16 x half of the states) = rows of a [pos][d_head] times state [d_head][d_state].
template <typename T, int kStates>
__device__ void times_state(float (&change)[kStates / 16][4], uint32_t rows, uint32_t state) {
#pragma unroll
  for (int k = 0; k < kSsdTile / 16; ++k) {
    uint32_t a[4];
    load_matrices(a, straight_address(rows, 16 * grad_strip(), 16 * k));
    multiply_columns<T>(change, a, state, k, grad_half() * kStates / 2);
  }
}

/// The products of a head that need no other's result: dmap = dy x^T, what dy and x are by the
/// states (for dC and dB), and B by the gradient of the leaving state (for dx). On warpgroup
/// products they are four groups under way.
template <typename T, int kStates>
__device__ __forceinline__ void start_products(float (&dmap)[4][4], float (&read)[kStates / 16][4],
                                               float (&written)[kStates / 16][4], float (&dx)[4][4],
                                               const GradShared<kStates>& s) {
  const int half = grad_half();
#ifdef HEADLENS_SSD_WGMMA
  const uint32_t low_rows = half * 32 * 128;
  const uint32_t columns = kStates == 128 ? half * kPanelBytes : half * 64;
  warpgroup_fence();
#pragma unroll
  for (int k = 0; k < kSsdTile / 16; ++k) {
    warpgroup_mma<T, 0, 0>(dmap, warpgroup_tile(s.dy + k * 32),
                           warpgroup_tile(s.x + low_rows + k * 32), k > 0);
  }
  warpgroup_commit();
#pragma unroll
  for (int k = 0; k < kSsdTile / 16; ++k) {
    warpgroup_mma<T, 0, 1>(read, warpgroup_tile(s.dy + k * 32),
                           warpgroup_tile(s.entering + columns + k * 16 * 128), k > 0);
  }
  warpgroup_commit();
#pragma unroll
  for (int k = 0; k < kSsdTile / 16; ++k) {
    warpgroup_mma<T, 0, 1>(written, warpgroup_tile(s.x + k * 32),
                           warpgroup_tile(s.leaving + columns + k * 16 * 128), k > 0);
  }
  warpgroup_commit();
#pragma unroll
  for (int k = 0; k < kStates / 16; ++k) {
    const uint32_t at = k / 4 * kPanelBytes + k % 4 * 32;
    warpgroup_mma<T, 0, 0>(dx, warpgroup_tile(s.B + at), warpgroup_tile(s.leaving + low_rows + at),
                           k > 0);
  }
  warpgroup_commit();
#else
  set_zero(dmap), set_zero(read), set_zero(written), set_zero(dx);
  multiply_rows<T, 4, kSsdTile / 16>(dmap, s.dy, 16 * grad_strip(), s.x, 32 * half);
  times_state<T, kStates>(read, s.dy, s.entering);
  times_state<T, kStates>(written, s.x, s.leaving);
  multiply_rows<T, 4, kStates / 16>(dx, s.B, 16 * grad_strip(), s.leaving, 32 * half);
#endif
}

/// One chunk of one group, some of its heads; grid (chunk, group * split, batch).
template <typename T, int kStates>
__global__ void __launch_bounds__(kGradThreads, 1)
    ssd_chunk_grads_kernel(const SsdBackwardParams p, const SsdPlan plan, const GradSplit split,
                           const GradBuffers buffers) {
  extern __shared__ __align__(1024) char shared[];
  __shared__ ChunkDecays decays[2];
  __shared__ GradParts parts;
  const GradBlock<T, kStates> block(p, plan, split, buffers);
  const int warp = threadIdx.x / 32;

  DecayRegs next;
  const auto fetch = [&](int i) {
    block.load_head(GradShared<kStates>(shared, i & 1), i);
    copy_async_commit();
    if (warp == 0) next.load(p.forward, block.batch, block.head(i), block.first_pos());
  };
  block.load_group(GradShared<kStates>(shared, 0));
  fetch(0);
  if (warp == 0) next.sum_up(decays[0]);

  clear_map<kGradThreads>(GradShared<kStates>(shared, 0).map);
  float scores[4][4] = {}, dscores[4][4] = {};
  float dB[kStates / 16][4] = {}, dC[kStates / 16][4] = {};
  DecayGrads decay_grads;
  for (int i = 0; i < block.tiles; ++i) {
    copy_async_wait<0>();
    fence_for_warpgroup();
    __syncthreads();  // the head is here; the last one's map and parts are read
    const GradShared<kStates> s(shared, i & 1);
    const ChunkDecays& d = decays[i & 1];
    if (i + 1 < block.tiles) fetch(i + 1);
    if (i == 0) {
      multiply_rows<T, 4, kStates / 16>(scores, s.C, 16 * grad_strip(), s.B, 32 * grad_half());
    }
    float dmap[4][4], dx[4][4], read[kStates / 16][4], written[kStates / 16][4];
    start_products<T>(dmap, read, written, dx, s);
    HEADLENS_SSD_WAIT(3);
    map_grads<T>(scores, dmap, dscores, d, s.map, parts);
    HEADLENS_SSD_WAIT(2);
    add_weighted<T>(dC, read, d.from, d.from, s.C, parts.entering[grad_half()]);
    HEADLENS_SSD_WAIT(1);
    add_weighted<T>(dB, written, d.weight, d.to, s.B, parts.leaving[grad_half()]);
    multiply_states<T>(s, parts.whole);
    fence_for_warpgroup();
    __syncthreads();  // the map and the parts are whole
    HEADLENS_SSD_WAIT(0);
    finish_x<T>(dx, s, d);
    block.write_x(dx, i);
    if (warp == 0) {
      decay_grads.add(parts, d);
      if ((i + 1) % plan.tiles == 0) block.write_decays(decay_grads, i);
      if (i + 1 < block.tiles) next.sum_up(decays[(i + 1) & 1]);
    }
  }
  __syncthreads();
  const GradShared<kStates> s(shared, 0);
  score_grads<T, kStates>(dscores, s, dB, dC);
  block.write_group(dB, p.grad_B, buffers.grad_B);
  block.write_group(dC, p.grad_C, buffers.grad_C);
}

/// The sum over splits, as T; blockIdx.y: B or C.
template <typename T>
__global__ void ssd_sum_splits_kernel(const SsdBackwardParams p, const GradBuffers buffers,
                                      int splits, int64_t pairs) {
  const SsdParams& f = p.forward;
  const int64_t pair = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (pair >= pairs) return;
  const float* from = blockIdx.y == 0 ? buffers.grad_B : buffers.grad_C;
  float2 sum = make_float2(0.0f, 0.0f);
  for (int i = 0; i < splits; ++i) {
    const float2 v = reinterpret_cast<const float2*>(from)[i * pairs + pair];
    sum.x += v.x, sum.y += v.y;
  }
  const int column = pair * 2 % f.d_state;
  const int64_t row = pair * 2 / f.d_state, token = row / f.groups;
  const SsdView& to = blockIdx.y == 0 ? p.grad_B : p.grad_C;
  T* out = const_cast<T*>(row_of<T>(to, token / f.pos, token % f.pos, row % f.groups));
  *reinterpret_cast<uint32_t*>(out + column) = pack_pair<T>(sum.x, sum.y);
}

int states_of(const SsdParams& p) {
  return p.d_state > 64 ? 128 : 64;
}

GradSplit split_heads(const SsdParams& p, const SsdPlan& plan) {
  const int shared = p.heads / p.groups;
  const int64_t blocks = int64_t(p.batch) * p.groups * plan.chunks;
  const int64_t slots = ssd_multiprocessors();  // a block each
  GradSplit best{1, shared};
  double least = 1e30;
  for (int heads = shared; heads >= 1; --heads) {
    const int splits = (shared + heads - 1) / heads;
    // A block's own cost, in heads, and that of adding its share up.
    const double cost = double((blocks * splits + slots - 1) / slots) * (heads * plan.tiles + 2.0) +
                        0.5 * double(blocks * splits) / slots;
    if (cost < least) least = cost, best = {splits, heads};
    if (splits > 32) break;
  }
  return best;
}

/// Sizes of the workspace's parts, in bytes, each a multiple of 256.
struct GradWorkspace {
  size_t piece_states, piece_decays, chunk_states, partial;
  int splits;

  GradWorkspace(const SsdParams& p, const SsdPlan& plan) : splits(split_heads(p, plan).splits) {
    const size_t tiles = size_t(p.batch) * p.heads * plan.tiles;
    const size_t state = size_t(kSsdTile) * states_of(p);
    const auto whole = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
    piece_states = whole(tiles * plan.pieces() * state * sizeof(float));
    piece_decays = whole(tiles * plan.pieces() * sizeof(float));
    chunk_states = whole(tiles * plan.chunks * state * 2);
    partial = splits > 1 ? whole(size_t(splits) * p.batch * p.pos * p.groups * p.d_state * 4) : 0;
  }
  size_t bytes() const { return 2 * (piece_states + piece_decays + chunk_states + partial); }
};

template <typename T, int kStates>
cudaError_t launch(const SsdBackwardParams& p, cudaStream_t stream) {
  const SsdParams& f = p.forward;
  const SsdPlan plan = ssd_plan(f, 2);
  const GradWorkspace sizes(f, plan);
  char* at = reinterpret_cast<char*>(f.workspace);
  const auto take = [&](size_t bytes) { return std::exchange(at, at + bytes); };

  SsdSweeps sweeps{};
  sweeps.of[0] = {f.x, f.B, false, f.state_in, nullptr, nullptr, nullptr, nullptr};
  sweeps.of[1] = {p.grad_y, f.C, true, p.grad_state, p.grad_state_in, nullptr, nullptr, nullptr};
  for (SsdSweep& sweep : sweeps.of) {
    sweep.piece_states = reinterpret_cast<float*>(take(sizes.piece_states));
    sweep.piece_decays = reinterpret_cast<float*>(take(sizes.piece_decays));
    sweep.chunk_states = take(sizes.chunk_states);
  }
  GradBuffers buffers{sweeps.of[0].chunk_states, sweeps.of[1].chunk_states, nullptr, nullptr};
  if (sizes.splits > 1) {
    buffers.grad_B = reinterpret_cast<float*>(take(sizes.partial));
    buffers.grad_C = reinterpret_cast<float*>(take(sizes.partial));
  }
  cudaError_t error = cudaSuccess;
  if (plan.segments > 1) error = launch_sweeps<T, kStates, false>(f, plan, sweeps, 2, stream);
  if (error == cudaSuccess) error = launch_sweeps<T, kStates, true>(f, plan, sweeps, 2, stream);
  if (error != cudaSuccess) return error;
  error = launch_with_shared(
      &ssd_chunk_grads_kernel<T, kStates>, dim3(plan.chunks, f.groups * sizes.splits, f.batch),
      kGradThreads, GradShared<kStates>::kBytes, stream, p, plan, split_heads(f, plan), buffers);
  if (error != cudaSuccess || sizes.splits == 1) return error;
  const int64_t pairs = int64_t(f.batch) * f.pos * f.groups * f.d_state / 2;
  ssd_sum_splits_kernel<T>
      <<<dim3((pairs + 255) / 256, 2), 256, 0, stream>>>(p, buffers, sizes.splits, pairs);
  return cudaGetLastError();
}

}  // namespace

bool ssd_backward_supports(const SsdBackwardParams& p) {
  return ssd_scan_supports(p.forward) && p.forward.d_state <= 128 && p.forward.groups <= 1024;
}

size_t ssd_backward_workspace(const SsdBackwardParams& p) {
  return GradWorkspace(p.forward, ssd_plan(p.forward, 2)).bytes();
}

cudaError_t launch_ssd_backward(const SsdBackwardParams& p, cudaStream_t stream) {
  if (!ssd_backward_supports(p)) return cudaErrorInvalidValue;
  const auto run = [&](auto t) {
    using T = decltype(t);
    return states_of(p.forward) == 64 ? launch<T, 64>(p, stream) : launch<T, 128>(p, stream);
  };
  return p.forward.dtype == KernelDtype::Float16 ? run(__half()) : run(__nv_bfloat16());
}

}  // namespace headlens
