// headlens/kernels: figures of state-space map rows that are at hand.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace headlens {

constexpr int kTopMost = 16;       // the largest top_k
constexpr int kSegmentMost = 256;  // the most segments

/// Figures of P_ij = |M_ij| / sum_j |M_ij| of rows of M; the row at position i sees keys 0 .. i.
struct MapRowStatsParams {
  const float* map;     // [batch, head, row, pos]
  const int64_t* rows;  // [batch, row]
  int64_t batch, heads, row_count, pos;
  const int32_t* segments;  // [batch or 1, segment_pos], -1 for none; or null
  int64_t segment_batch_stride, num_segments;
  const int64_t* keys;  // [batch, row, set, n] sets of keys, negative: none; or null
  int64_t sets, each;
  int top_k;
  float *entropy, *row_mass, *max;  // [batch, head, row]
  int64_t* argmax;
  float *segment_mass, *set_mass;  // [batch, head, row, segment], [.., set]: of P
  float* top_values;               // [.., top_k]; or null
  int64_t* top_keys;
};
cudaError_t launch_map_row_stats(const MapRowStatsParams& params, cudaStream_t stream);

}  // namespace headlens
