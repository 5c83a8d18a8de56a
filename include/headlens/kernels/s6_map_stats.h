// headlens/kernels: figures of the maps of Mamba-1 (S6) channels.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Per-row figures of M_ij = sum_n C_i[n] exp(A[n] sum_{k=j+1..i} dt_k) dt_j B_j[n], j <= i, of
/// P_ij = |M_ij| / sum_j |M_ij|: [batch, channel, row ..] for the request's rows, its heads being
/// channels, without the map.
///
/// dt [batch, pos, channel]; A [channel, d_state] (negative); B, C [batch, pos, d_state]. On a GPU,
/// up to float32 and 16 states: tiles of M are products of decayed C and B, both factors at most
/// 1 in their decay; memory O(pos x channels). Chosen rows, top_k and more states take the rows, a
/// block of them at a time, and so do CPU, float64 and gradients. Key sets may name keys after the
/// row, which count nothing. ShapeError.
MapStats selective_scan_map_stats(const at::Tensor& dt, const at::Tensor& A, const at::Tensor& B,
                                  const at::Tensor& C, const MapStatsRequest& request);

/// What the rows of a block with convolution and gate are made of besides M.
struct S6BlockParts {
  at::Tensor conv;    ///< [batch, pos, channel] the convolution's output, before its silu
  at::Tensor weight;  ///< [channel, d_conv] the convolution's
  at::Tensor gate;    ///< [batch, pos, channel] z, before its silu
  at::Tensor D;       ///< [channel] the skip, or undefined for the map without it
};

/// Rows of the full-block map from the convolution's input u to the gated output (arXiv 2405.16504
/// folds the same parts): silu(z_i) times sum_s M_i,t+s sigmoid(conv_t+s) weight[d_conv - 1 - s].
/// map_rows [batch, channel, row, pos] for `rows` [batch, row] of `channels` (undefined: all).
/// y_i silu(z_i) is their product with u plus what the convolution's bias adds. Differentiable.
at::Tensor selective_scan_block_rows(const at::Tensor& map_rows, const at::Tensor& rows,
                                     const at::Tensor& channels, const S6BlockParts& parts);

}  // namespace headlens
