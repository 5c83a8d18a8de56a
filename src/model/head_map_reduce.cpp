// headlens/model: figures of a head map's rows, made a block of rows at a time.
#include <ATen/ATen.h>

#include <algorithm>

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
  if (!ids.is_cpu()) return;  // not looked at on a GPU: it would have to be waited for
  const int64_t low = ids.min().item<int64_t>(), high = ids.max().item<int64_t>();
  HEADLENS_CHECK(ShapeError, low >= -1 && high < options.num_segments,
                 "[HeadMap::reduce] segment id, expected -1 to {}, got {}",
                 options.num_segments - 1, low < -1 ? low : high);
}

}  // namespace

std::optional<MapStats> HeadMap::streamed(const MapStatsRequest& /*request*/) const {
  return std::nullopt;
}

MapStats HeadMap::reduce(const MapReduceOptions& options) const {
  check_options(*this, options);
  check_heads(*this, options.heads);
  MapStatsRequest request;
  if (options.rows.defined()) request.rows = checked_rows(*this, options.rows);
  request.top_k = options.top_k;
  request.offsets = options.offsets;
  request.num_segments = options.num_segments;
  if (options.key_sets.defined()) request.key_sets = options.key_sets.to(device());
  if (options.segments.defined()) {
    const Tensor ids = options.segments.to(device());
    request.segments = ids.dim() == 1 ? ids.unsqueeze(0) : ids;
  }
  std::optional<MapStats> stats;
  if (!edited()) {
    request.heads = head_index(options.heads, device());
    stats = streamed(request);
  }
  if (!stats) stats = reduce_rows(request, options);
  return options.mean_rows ? mean_over_rows(*stats) : *stats;
}

MapStats HeadMap::reduce_rows(MapStatsRequest request, const MapReduceOptions& options) const {
  Tensor rows = request.rows;
  if (!rows.defined()) {
    const auto index = at::TensorOptions(device()).dtype(at::kLong);
    rows = at::arange(queries(), index).unsqueeze(0).expand({batch(), queries()});
  }
  const Tensor sets = request.key_sets;
  const int64_t count = rows.size(1),
                block = std::min(options.row_block, std::max<int64_t>(count, 1));
  std::vector<MapStats> by_head;
  for (const auto& heads : head_blocks(*this, options.heads, block)) {
    std::vector<MapStats> by_row;
    for (int64_t first = 0; first == 0 || first < count; first += block) {
      const int64_t some = std::min(block, count - first);
      request.rows = rows.narrow(1, first, some);
      if (sets.defined()) request.key_sets = sets.narrow(1, first, some);
      by_row.push_back(map_row_stats(edited_rows(request.rows, heads), is_softmax(),
                                     sees(request.rows), request, first_query()));
    }
    by_head.push_back(join_stats(by_row, 2));
  }
  return join_stats(by_head, 1);
}

}  // namespace headlens
