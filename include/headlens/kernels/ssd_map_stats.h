// headlens/kernels: figures of the maps of Mamba-2 heads.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Per-row figures of M_ij = (C_i.B_j) exp(sum_{k=j+1..i} log_decay_k) dt_j, j <= i, of P_ij =
/// |M_ij| / sum_j |M_ij|: [batch, head, row ..] for the request's rows and heads, without the map.
///
/// log_decay, dt [batch, pos, head] (dt undefined: 1); B, C [batch, pos, group, d_state], head h
/// reads group h / (heads / groups). On a GPU, up to float32: C B^T is made once for the heads of a
/// group, and mass and entropy are matrix products with the heads' decayed steps; memory O(pos x
/// heads). Chosen rows and top_k take the rows, a block of them at a time, and so do CPU, float64
/// and gradients. Key sets may name keys after the row, which count nothing. ShapeError.
MapStats ssd_map_stats(const at::Tensor& log_decay, const at::Tensor& dt, const at::Tensor& B,
                       const at::Tensor& C, const MapStatsRequest& request);

}  // namespace headlens
