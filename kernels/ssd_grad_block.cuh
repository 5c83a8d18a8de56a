// headlens/kernels: what a block of the Mamba-2 scan's gradient reads and writes.
#pragma once

#include "ssd_chunk_grads.cuh"

namespace headlens {

/// How the heads of a group are shared out over blocks, each of which sums its own dB and dC.
struct GradSplit {
  int splits, heads;  // heads a split
};

/// What the chunk kernel finds in the workspace.
struct GradBuffers {
  const void* entering;  // [batch, tile, chunk, 64, kStates] of T
  const void* leaving;
  float* grad_B;  // [split, batch, pos, group, d_state]; null: straight into the result
  float* grad_C;
};

template <typename T, int kStates>
struct GradBlock {
  const SsdBackwardParams& p;
  const SsdPlan& plan;
  const GradBuffers& buffers;
  int chunk, group, split, batch, first_tile, tiles;

  __device__ GradBlock(const SsdBackwardParams& p, const SsdPlan& plan, const GradSplit& split_of,
                       const GradBuffers& buffers)
      : p(p), plan(plan), buffers(buffers), chunk(blockIdx.x), batch(blockIdx.z) {
    const int shared = p.forward.heads / p.forward.groups;
    group = blockIdx.y / split_of.splits, split = blockIdx.y % split_of.splits;
    const int first = split * split_of.heads, last = min(first + split_of.heads, shared);
    first_tile = (group * shared + first) * plan.tiles;
    tiles = max(last - first, 0) * plan.tiles;
  }

  __device__ int first_pos() const { return chunk * kSsdChunk; }
  __device__ int rows() const { return p.forward.pos - first_pos(); }
  __device__ int head(int i) const { return (first_tile + i) / plan.tiles; }
  __device__ int first_row(int i) const { return (first_tile + i) % plan.tiles * kSsdTile; }

  __device__ void load_group(const GradShared<kStates>& s) const {
    const SsdParams& f = p.forward;
    load_tile<kStates / 64, kGradThreads>(s.B, row_of<T>(f.B, batch, first_pos(), group), f.B.pos,
                                          rows(), f.d_state);
    load_tile<kStates / 64, kGradThreads>(s.C, row_of<T>(f.C, batch, first_pos(), group), f.C.pos,
                                          rows(), f.d_state);
  }

  __device__ void load_head(const GradShared<kStates>& s, int i) const {
    const SsdParams& f = p.forward;
    const int columns = f.d_head - first_row(i);
    load_tile<1, kGradThreads>(s.x, row_of<T>(f.x, batch, first_pos(), head(i)) + first_row(i),
                               f.x.pos, rows(), columns);
    load_tile<1, kGradThreads>(s.dy,
                               row_of<T>(p.grad_y, batch, first_pos(), head(i)) + first_row(i),
                               p.grad_y.pos, rows(), columns);
    const int64_t all = int64_t(f.heads) * plan.tiles;
    const int64_t at = ((batch * all + first_tile + i) * plan.chunks + chunk) * kSsdTile * kStates;
    load_tile<kStates / 64, kGradThreads>(s.entering, static_cast<const T*>(buffers.entering) + at,
                                          kStates, kSsdTile, kStates);
    load_tile<kStates / 64, kGradThreads>(s.leaving, static_cast<const T*>(buffers.leaving) + at,
                                          kStates, kSsdTile, kStates);
  }

  /// A warp's 16 rows and half of the columns of dx.
  __device__ void write_x(const float (&dx)[4][4], int i) const {
    const int lane = threadIdx.x % 32;
    const int column = first_row(i) + 32 * grad_half() + lane % 4 * 8;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = 16 * grad_strip() + lane / 4 + 8 * e;
      uint32_t r[4];
#pragma unroll
      for (int t = 0; t < 4; ++t) r[t] = pack_pair<T>(dx[t][2 * e], dx[t][2 * e + 1]);
      gather_quad(r);
      if (row >= rows() || column >= p.forward.d_head) continue;
      T* to = const_cast<T*>(row_of<T>(p.grad_x, batch, first_pos() + row, head(i)));
      *reinterpret_cast<uint4*>(to + column) = make_uint4(r[0], r[1], r[2], r[3]);
    }
  }

  __device__ void write_decays(DecayGrads& grads, int i) const {
    for (int e = 0; e < 2; ++e) {
      const int t = 2 * (threadIdx.x % 32) + e;
      if (t < rows()) {
        const int pos = first_pos() + t;
        *const_cast<float*>(row_of<float>(p.grad_log_decay, batch, pos, head(i))) =
            grads.log_decay[e];
        if (p.grad_dt.data != nullptr) {
          *const_cast<float*>(row_of<float>(p.grad_dt, batch, pos, head(i))) = grads.dt[e];
        }
      }
    }
    grads = DecayGrads();
  }

  /// A warp's 16 rows and half of the columns of dB or dC.
  __device__ void write_group(const float (&v)[kStates / 16][4], const SsdView& to,
                              float* partial) const {
    const SsdParams& f = p.forward;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int row = 16 * grad_strip() + lane / 4 + 8 * e, pos = first_pos() + row;
      if (row >= rows()) continue;
#pragma unroll
      for (int n = 0; n < kStates / 16; ++n) {
        const int column = (grad_half() * kStates / 16 + n) * 8 + lane % 4 * 2;
        if (column >= f.d_state) continue;
        if (partial != nullptr) {
          const int64_t at =
              (((int64_t(split) * f.batch + batch) * f.pos + pos) * f.groups + group) * f.d_state;
          *reinterpret_cast<float2*>(partial + at + column) =
              make_float2(v[n][2 * e], v[n][2 * e + 1]);
        } else {
          *reinterpret_cast<uint32_t*>(const_cast<T*>(row_of<T>(to, batch, pos, group)) + column) =
              pack_pair<T>(v[n][2 * e], v[n][2 * e + 1]);
        }
      }
    }
  }
};

}  // namespace headlens
