// headlens/kernels: checked requests for map figures, and their answer from blocks of rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "headlens/core/dtype.h"
#include "headlens/kernels/map_stats.h"

namespace headlens {

/// Checks shapes and limits (ShapeError) for a map of `pos` keys.
void check_map_request(const char* where, const MapStatsRequest& request, int64_t batch,
                       int64_t pos);

/// The request with its rows spelled out: every position's number where they are undefined.
MapStatsRequest with_rows(MapStatsRequest request, int64_t batch, int64_t pos, at::Device device);

/// The part of a request with spelled-out rows that asks for `count` of them from `first` on.
MapStatsRequest rows_of_request(const MapStatsRequest& request, int64_t first, int64_t count);

/// Figures of a state-space map whose rows [batch, head, row, pos] `rows_of` makes from row numbers
/// [batch, row], for the request's heads: never more than a few ten million entries at once.
MapStats stats_of_rows(const MapStatsRequest& request, int64_t batch, int64_t heads, int64_t pos,
                       at::Device device, const std::function<Tensor(const Tensor& rows)>& rows_of);

/// The keys at every row's offsets as sets of one, [batch, row, offset, 1]; negative before the
/// first key.
Tensor keys_at_offsets(const Tensor& rows, const std::vector<int64_t>& offsets);

}  // namespace headlens
