// headlens/kernels: what the figures of state-space maps on a device have in common.
#pragma once

#include <functional>

#include "headlens/core/dtype.h"
#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Makes float32 rows [batch, n, row, pos] of M for rows [batch, row] and heads [n] (or all).
using RowsOnDevice = std::function<Tensor(const Tensor& rows, const Tensor& heads)>;

/// Figures of the request's rows (spelled out) from rows of M, a block of rows and heads at a time.
/// `heads` is how many there are in all.
MapStats figures_of_rows(const MapStatsRequest& request, int64_t heads, int64_t pos,
                         const RowsOnDevice& rows_of);

/// Whether a request is for so few rows, or such figures, that making the rows is the way.
bool wants_rows(const MapStatsRequest& request, int64_t pos);

/// Segment ids int32 [batch or 1, padded], -1 for none and past the end; undefined without.
Tensor device_segments(const MapStatsRequest& request, int64_t pos, int64_t padded);

/// Figures of every row and head, to be filled by kernels: [batch, head, pos]. Segment and set mass
/// are of |M|, zeros to add to.
MapStats empty_figures(const MapStatsRequest& request, int64_t batch, int64_t heads, int64_t pos,
                       at::Device device);

/// The same as asked for: masses as shares of the row's, the request's heads and rows alone.
MapStats finished_figures(const MapStatsRequest& request, MapStats stats);

}  // namespace headlens
