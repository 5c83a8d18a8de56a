// headlens/kernels: figures and rows of the maps of Mamba-2 heads.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

constexpr int kSsdTile = 64;  // positions of a tile; `padded` is a multiple of it
constexpr int kSsdEight = 8;  // heads of a group come in eights, the last one filled up

/// What the map M_ij = (C_i.B_j) exp(sum_{k=j+1..i} log_decay_k) dt_j is made of. Strides in
/// elements, [batch, pos, head] and [batch, pos, group]; the states of B and C lie side by side.
struct SsdMapInputs {
  const void *log_decay, *dt, *B, *C;  // dt null: 1
  KernelDtype log_decay_dtype, dt_dtype, B_dtype, C_dtype;
  int64_t log_decay_strides[3], dt_strides[3], B_strides[3], C_strides[3];
  int64_t batch, pos, heads, groups, d_state;
};

/// Scratch that the streaming figures share. A "slot" is a head of the groups filled up to eights:
/// slots = groups * eights * 8, head h of a group in slot group * eights * 8 + h.
struct SsdMapTerms {
  SsdMapInputs in;
  int64_t padded, states, planes, eights;  // states: d_state up to a multiple of 16
  float floor;                             // log decays below count as this
  void *B, *C;        // bf16 [plane, batch, group, padded, states]: the sum of planes is the value
  float* C_norm;      // [batch, group, padded] at least |C_i|
  float* B_norm;      // [batch, group, tile] at least |B_j| of the tile
  float* B_reach;     // [batch, group, tile] the largest B_norm so far
  float2* inside;     // [batch, padded, slot] log2 decay within the tile up to the key, high + low
  float* weight;      // [batch, padded, slot] dt_j times the decay from j to the tile's end
  void* fragments;    // uint4 [batch, tile, slot / 8, 4, 32, 2] the weights, as halves
  int32_t* exponent;  // [batch, tile, slot] by what power of two those are scaled
  float* tile_sum;    // [batch, tile, slot] sum of the tile's weights
  double* before;     // [batch, tile + 1, slot] log2 decay of all tiles before
  float* reach;       // [batch, tile, slot] decayed sum of all weights at the tile's end
};
cudaError_t launch_ssd_map_terms(const SsdMapTerms& terms, cudaStream_t stream);

/// Figures of every row, [batch, head, pos]; segment_mass is added to. Keys further back than some
/// tile are left out where their sum is below 2^-30 of the row's mass: for rows i of a block
///   sum_{j <= e} |M_ij| <= |C_i| max_{j <= e} |B_j| exp(sum_{e+1..i} log_decay)
///                          sum_{j <= e} dt_j exp(sum_{j+1..e} log_decay),
/// which moves an entropy by less than 1e-7; and for the largest entry where that bound is below
/// it.
struct SsdMapStatsParams {
  SsdMapTerms terms;        // launched before
  const int32_t* segments;  // [batch or 1, padded], -1 for none; null: no segment_mass
  int64_t segment_batch_stride, num_segments;
  float *entropy, *row_mass, *max;
  int64_t* argmax;
  float* segment_mass;  // [batch, head, pos, segment] sums of |M|
};
cudaError_t launch_ssd_map_sums(const SsdMapStatsParams& params, cudaStream_t stream);
/// Whether the current device's shared memory holds what a block needs.
bool ssd_map_stats_fits(int64_t planes, int64_t states);
/// After the sums: largest entries and segments.
cudaError_t launch_ssd_map_peaks(const SsdMapStatsParams& params, cudaStream_t stream);

/// Sums of |M| over sets of keys for every row: out [batch, head, pos, set], added to.
struct SsdMapSetsParams {
  SsdMapTerms terms;    // launched before
  const int64_t* keys;  // [batch, pos, set, n]; negative: none
  int64_t sets, each;
  float* out;
};
cudaError_t launch_ssd_map_sets(const SsdMapSetsParams& params, cudaStream_t stream);

/// Rows of M: out [batch, head, row, pos] for rows [batch, row] of chosen heads.
struct SsdMapRowsParams {
  SsdMapInputs in;
  float floor;            // log decays below count as this
  const int64_t* rows;    // [batch, row]
  const int64_t* chosen;  // [n] heads; null: all
  int64_t row_count, chosen_count;
  double* before;    // [batch, tile + 1, head] scratch: log2 decay of all tiles before
  double* row_sums;  // [batch, row, chosen] scratch: log2 decay up to and with the row
  float* out;
};
cudaError_t launch_ssd_map_rows(const SsdMapRowsParams& params, cudaStream_t stream);

}  // namespace headlens
