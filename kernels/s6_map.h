// headlens/kernels: figures and rows of the maps of Mamba-1 channels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

constexpr int kS6Tile = 64;    // positions whose steps are summed in one go
constexpr int kS6Block = 128;  // rows of a block: `padded` is a multiple of it
constexpr int kS6States = 16;  // the most states that the streaming figures take

/// dt as it is, and its sums over stretches of positions.
struct S6Steps {
  const void* dt;                        // dtype; strides in elements
  int64_t batch, pos, channels, padded;  // padded: pos up to a multiple of kS6Block
  int64_t batch_stride, pos_stride, channel_stride;
  KernelDtype dtype;
  float* by_channel;  // [batch, channel, padded] dt, 0 past the end; may be null
  float* suffix;      // [batch, channel, padded] sum of dt after j to the end of j's tile; or null
  double* before;     // [batch, channel, padded / kS6Tile + 1] sum of dt before each tile
};
cudaError_t launch_s6_steps(const S6Steps& params, cudaStream_t stream);

/// Figures of every row of M_ij = sum_n C_i[n] exp(A[n] sum_{k=j+1..i} dt_k) dt_j B_j[n]. Outputs
/// [batch, channel, pos]; segment_mass is added to.
struct S6MapStatsParams {
  S6Steps steps;            // launched before, nothing null
  const float* A;           // [channel, kS6States], zeros past d_state
  const float *B, *C;       // [batch, padded, kS6States], zeros past d_state and pos
  const int32_t* segments;  // [batch or 1, padded], -1 for none; null: no segment_mass
  int64_t segment_batch_stride, num_segments;
  float *entropy, *row_mass, *max;
  int64_t* argmax;
  float* segment_mass;  // [batch, channel, pos, segment] sums of |M|
};
cudaError_t launch_s6_map_stats(const S6MapStatsParams& params, cudaStream_t stream);

/// Sums of |M| over sets of keys for every row: out [batch, channel, pos, set].
struct S6MapSetsParams {
  S6Steps steps;        // launched before, nothing null
  const float* A;       // [channel, kS6States], zeros past d_state
  const float *B, *C;   // [batch, padded, kS6States], zeros past d_state and pos
  const int64_t* keys;  // [batch, pos, set, n]; negative: none
  int64_t sets, each;
  float* out;
};
cudaError_t launch_s6_map_sets(const S6MapSetsParams& params, cudaStream_t stream);

/// Rows of M: out [batch, channel, row, pos] for rows [batch, row] of chosen channels.
struct S6MapRowsParams {
  S6Steps steps;          // launched before; only `before` is read besides dt
  const float* A;         // [channel, d_state]
  const float *B, *C;     // [batch, pos, d_state]
  const int64_t* rows;    // [batch, row]
  const int64_t* chosen;  // [n] channels; null: all
  int64_t row_count, chosen_count, d_state;
  double* row_sums;  // [batch, row, chosen] scratch: sum of dt up to and with the row
  float* out;
};
cudaError_t launch_s6_map_rows(const S6MapRowsParams& params, cudaStream_t stream);

}  // namespace headlens
