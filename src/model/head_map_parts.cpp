// headlens/model: what the kinds of head map share.
#include "model/head_map_parts.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

namespace headlens {

void check_map_input(const char* map, const char* name, const Tensor& tensor,
                     at::IntArrayRef expected) {
  HEADLENS_CHECK(ShapeError, tensor.defined(), "[{}] {}, expected shape {}, got no tensor", map,
                 name, shape_string(expected));
  bool matches = tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; matches && i < expected.size(); ++i) {
    matches = expected[i] == -1 || tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  HEADLENS_CHECK(ShapeError, matches, "[{}] {}, expected shape {}, got {}", map, name,
                 shape_string(expected), shape_string(tensor.sizes()));
}

Tensor head_index(const std::vector<int64_t>& heads, at::Device device) {
  if (heads.empty()) return {};
  return at::tensor(heads, at::kLong).to(device);
}

std::vector<int64_t> all_heads(const std::vector<int64_t>& heads, int64_t count) {
  if (!heads.empty()) return heads;
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

bool within_limits(const MapStatsRequest& request) {
  const auto is_negative = [](int64_t offset) { return offset < 0; };
  return request.num_segments <= 256 && request.offsets.size() <= 8 && request.top_k <= 16 &&
         std::none_of(request.offsets.begin(), request.offsets.end(), is_negative);
}

Tensor scaled_values(const Tensor& values, const Tensor& scale) {
  const Tensor factor = scale.to(at::promote_types(values.scalar_type(), at::kFloat));
  return (values * factor).to(values.scalar_type()).masked_fill(scale == 0, 0);
}

std::vector<std::vector<int64_t>> head_blocks(const HeadMap& map, const std::vector<int64_t>& heads,
                                              int64_t rows) {
  constexpr int64_t kEntries = 1 << 24;
  const std::vector<int64_t> all = all_heads(heads, map.heads());
  const int64_t count = static_cast<int64_t>(all.size());
  const int64_t per_head = std::max<int64_t>(1, map.batch() * rows * map.keys());
  const int64_t block = std::max<int64_t>(1, kEntries / per_head);
  if (block >= count) return {heads};
  std::vector<std::vector<int64_t>> blocks;
  for (int64_t first = 0; first < count; first += block) {
    blocks.emplace_back(all.begin() + first, all.begin() + std::min(first + block, count));
  }
  return blocks;
}

void check_heads(const HeadMap& map, const std::vector<int64_t>& heads) {
  for (const int64_t head : heads) {
    HEADLENS_CHECK(ShapeError, head >= 0 && head < map.heads(),
                   "[HeadMap] head, expected 0 to {}, got {}", map.heads() - 1, head);
  }
}

Tensor checked_rows(const HeadMap& map, const Tensor& rows) {
  HEADLENS_CHECK(ShapeError, rows.defined() && rows.scalar_type() == at::kLong,
                 "[HeadMap] dtype of rows, expected int64, got {}",
                 rows.defined() ? dtype_name(rows.scalar_type()) : "no tensor");
  HEADLENS_CHECK(ShapeError, rows.dim() == 1 || (rows.dim() == 2 && rows.size(0) == map.batch()),
                 "[HeadMap] rows, expected [row] or [{}, row], got {}", map.batch(),
                 shape_string(rows.sizes()));
  if (rows.numel() > 0) {
    const int64_t low = rows.min().item<int64_t>(), high = rows.max().item<int64_t>();
    HEADLENS_CHECK(ShapeError, low >= 0 && high < map.queries(),
                   "[HeadMap] row, expected 0 to {}, got {}", map.queries() - 1,
                   low < 0 ? low : high);
  }
  const Tensor wide = rows.dim() == 1 ? rows.unsqueeze(0).expand({map.batch(), -1}) : rows;
  return wide.to(map.device());
}

}  // namespace headlens
