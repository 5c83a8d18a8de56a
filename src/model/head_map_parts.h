// headlens/model: what the kinds of head map share.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "core/check.h"
#include "headlens/core/dtype.h"
#include "headlens/model/head_map.h"

namespace headlens {

/// Throws ShapeError unless `tensor` is defined and of shape `expected`; -1 stands for any size.
void check_map_input(const char* map, const char* name, const Tensor& tensor,
                     at::IntArrayRef expected);

/// Throws ShapeError unless every number is a head of the map.
void check_heads(const HeadMap& map, const std::vector<int64_t>& heads);

/// [row] or [batch, row] -> [batch, row] on the map's device; ShapeError unless every index is a
/// query of this forward.
Tensor checked_rows(const HeadMap& map, const Tensor& rows);

/// Whether the streaming kernels take a request of this size.
bool within_limits(const MapStatsRequest& request);

/// values * scale in their own dtype, 0 where the scale is 0 whatever the value.
Tensor scaled_values(const Tensor& values, const Tensor& scale);

/// Head numbers as an int64 tensor on `device`; undefined for an empty list (all heads).
Tensor head_index(const std::vector<int64_t>& heads, at::Device device);

/// The names of a list that is empty for "all": 0 .. count - 1.
std::vector<int64_t> all_heads(const std::vector<int64_t>& heads, int64_t count);

/// `heads` cut into lists of which one with `rows` rows stays within a few ten million entries.
std::vector<std::vector<int64_t>> head_blocks(const HeadMap& map, const std::vector<int64_t>& heads,
                                              int64_t rows);

}  // namespace headlens
