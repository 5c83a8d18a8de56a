// headlens/kernels: maps of Mamba-2 heads on a device, after the tensors were checked.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Shapes as in headlens/kernels/ssd_scan.h, dtypes that device code takes; dt may be undefined.
struct SsdMapTensors {
  Tensor log_decay, dt, B, C;
};

/// float32 rows of M, [batch, n, row, pos]; rows int64 [batch, row], heads int64 [n] or undefined.
Tensor ssd_map_rows_on_device(const SsdMapTensors& in, const Tensor& rows, const Tensor& heads);

/// Figures of a checked request.
MapStats ssd_map_stats_on_device(const SsdMapTensors& in, const MapStatsRequest& request);

}  // namespace headlens
