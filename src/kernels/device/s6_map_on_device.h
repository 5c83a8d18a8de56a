// headlens/kernels: maps of Mamba-1 channels on a device, after the tensors were checked.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Shapes as in headlens/kernels/selective_scan.h, dtypes that device code takes.
struct S6MapTensors {
  Tensor dt, A, B, C;
};

/// float32 rows of M, [batch, n, row, pos]; rows int64 [batch, row], channels int64 [n] or
/// undefined.
Tensor s6_map_rows_on_device(const S6MapTensors& in, const Tensor& rows, const Tensor& channels);

/// Figures of a checked request.
MapStats s6_map_stats_on_device(const S6MapTensors& in, const MapStatsRequest& request);

}  // namespace headlens
