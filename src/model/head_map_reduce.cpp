// headlens/model: figures of a head map's rows, made a block of rows at a time.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "headlens/model/head_map.h"
#include "model/head_map_parts.h"

namespace headlens {
namespace {

void check_options(const HeadMap& map, const MapReduceOptions& options) {
  HEADLENS_CHECK(ShapeError, options.row_block > 0,
                 "[HeadMap::reduce] row_block, expected at least 1, got {}", options.row_block);
  HEADLENS_CHECK(ShapeError, options.top_k >= 0,
                 "[HeadMap::reduce] top_k, expected at least 0, got {}", options.top_k);
  if (!options.segments.defined()) return;
  const Tensor& ids = options.segments;
  HEADLENS_CHECK(ShapeError, ids.scalar_type() == at::kLong,
                 "[HeadMap::reduce] dtype of segments, expected int64, got {}",
                 dtype_name(ids.scalar_type()));
  const bool fits = ids.size(-1) == map.keys() &&
                    (ids.dim() == 1 || (ids.dim() == 2 && ids.size(0) == map.batch()));
  HEADLENS_CHECK(ShapeError, fits, "[HeadMap::reduce] segments, expected [{}] or [{}, {}], got {}",
                 map.keys(), map.batch(), map.keys(), shape_string(ids.sizes()));
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  HEADLENS_CHECK(ShapeError, low >= -1 && high < options.num_segments,
                 "[HeadMap::reduce] segment id, expected -1 to {}, got {}",
                 options.num_segments - 1, low < -1 ? low : high);
}

// Ones where a key belongs to a segment: [batch or 1, key, segment].
Tensor segment_membership(const HeadMap& map, const MapReduceOptions& options) {
  if (!options.segments.defined()) return {};
  Tensor ids = options.segments.to(map.device());
  if (ids.dim() == 1) ids = ids.unsqueeze(0);
  return ids.unsqueeze(-1) == at::arange(options.num_segments, ids.options());
}

Tensor entropy_of(const Tensor& p) {
  // The floor only keeps ln 0 away: 0 ln(floor) is 0, in the value and in the gradient.
  const double floor = p.scalar_type() == at::kDouble ? std::numeric_limits<double>::min()
                                                      : std::numeric_limits<float>::min();
  return -(p * p.clamp_min(floor).log()).sum(-1);
}

void add_top(MapStats& stats, const Tensor& p, const Tensor& visible, int64_t top_k) {
  const int64_t found = std::min(top_k, p.size(-1));
  // Keys in the future get a mark below every P, so that they cannot pass for keys with P = 0.
  const auto [values, keys] = p.masked_fill(visible.logical_not(), -1).topk(found, -1);
  const Tensor none = values.lt(0);
  std::vector<int64_t> missing = p.sizes().vec();
  missing.back() = top_k - found;
  stats.top_values = at::cat({values.masked_fill(none, 0), at::zeros(missing, p.options())}, -1);
  stats.top_keys = at::cat({keys.masked_fill(none, -1), at::full(missing, -1, keys.options())}, -1);
}

MapStats reduce_block(const HeadMap& map, const Tensor& map_rows, const Tensor& rows,
                      const Tensor& members, int64_t top_k) {
  MapStats stats;
  const Tensor p = normalized_rows(map_rows, map.is_softmax());
  stats.entropy = entropy_of(p);
  stats.row_mass = map_rows.abs().sum(-1);
  stats.argmax = p.argmax(-1);
  stats.max = p.gather(-1, stats.argmax.unsqueeze(-1)).squeeze(-1);
  if (top_k > 0) add_top(stats, p, map.sees(rows), top_k);
  if (members.defined()) {
    const auto flat = p.flatten(1, 2);  // [batch, head * row, key]
    stats.segment_mass = at::matmul(flat, members.to(p.scalar_type()))
                             .reshape({p.size(0), p.size(1), p.size(2), members.size(-1)});
  }
  return stats;
}

MapStats joined(const std::vector<MapStats>& parts, int64_t dim) {
  const auto join = [&](Tensor MapStats::*field) {
    std::vector<Tensor> tensors;
    for (const MapStats& part : parts) tensors.push_back(part.*field);
    return tensors.front().defined() ? at::cat(tensors, dim) : Tensor();
  };
  return {join(&MapStats::entropy),     join(&MapStats::row_mass),   join(&MapStats::max),
          join(&MapStats::argmax),      join(&MapStats::top_values), join(&MapStats::top_keys),
          join(&MapStats::segment_mass)};
}

}  // namespace

MapStats HeadMap::reduce(const MapReduceOptions& options) const {
  check_options(*this, options);
  Tensor rows = options.rows;
  if (!rows.defined()) rows = at::arange(queries(), at::TensorOptions(device()).dtype(at::kLong));
  rows = checked_rows(*this, rows);
  check_heads(*this, options.heads);
  const Tensor members = segment_membership(*this, options);
  const int64_t count = rows.size(1),
                block = std::min(options.row_block, std::max<int64_t>(count, 1));
  std::vector<MapStats> by_head;
  for (const auto& heads : head_blocks(*this, options.heads, block)) {
    std::vector<MapStats> by_row;
    for (int64_t first = 0; first == 0 || first < count; first += block) {
      const Tensor part = rows.narrow(1, first, std::min(block, count - first));
      by_row.push_back(reduce_block(*this, edited_rows(part, heads), part, members, options.top_k));
    }
    by_head.push_back(joined(by_row, 2));
  }
  return joined(by_head, 1);
}

Tensor normalized_rows(const Tensor& rows, bool is_softmax) {
  if (is_softmax) return rows;
  const Tensor size = rows.abs(), mass = size.sum(-1, /*keepdim=*/true);
  return size / mass.masked_fill(mass == 0, 1);
}

}  // namespace headlens
