// headlens/kernels: checked requests for map figures, and their answer from blocks of rows.
#include "kernels/map_requests.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/segment_sums.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

constexpr int64_t kMostSegments = 256, kMostOffsets = 8, kMostTop = 16;

void check_most(const char* where, const char* what, int64_t value, int64_t most) {
  HEADLENS_CHECK(ShapeError, value >= 0 && value <= most, "[{}] {}, expected 0 to {}, got {}",
                 where, what, most, value);
}

}  // namespace

void check_map_request(const char* where, const MapStatsRequest& request, int64_t batch,
                       int64_t pos) {
  if (request.rows.defined()) check_index(where, "rows", request.rows, {batch, -1});
  if (request.heads.defined()) check_index(where, "heads", request.heads, {-1});
  if (request.segments.defined()) {
    check_index(where, "segments", request.segments, {-1, pos});
    const int64_t copies = request.segments.size(0);
    HEADLENS_CHECK(ShapeError, copies == 1 || copies == batch,
                   "[{}] sequences of segments, expected 1 or {}, got {}", where, batch, copies);
  }
  if (request.key_sets.defined()) {
    const int64_t rows = request.rows.defined() ? request.rows.size(1) : pos;
    check_index(where, "key_sets", request.key_sets, {batch, rows, -1, -1});
  }
  check_most(where, "num_segments", request.num_segments, kMostSegments);
  check_most(where, "offsets", static_cast<int64_t>(request.offsets.size()), kMostOffsets);
  check_most(where, "top_k", request.top_k, kMostTop);
  for (const int64_t offset : request.offsets) {
    HEADLENS_CHECK(ShapeError, offset >= 0, "[{}] offset, expected at least 0, got {}", where,
                   offset);
  }
}

MapStatsRequest with_rows(MapStatsRequest request, int64_t batch, int64_t pos, at::Device device) {
  if (!request.rows.defined()) {
    const auto options = at::TensorOptions().dtype(at::kLong).device(device);
    request.rows = at::arange(pos, options).expand({batch, pos});
  }
  return request;
}

MapStatsRequest rows_of_request(const MapStatsRequest& request, int64_t first, int64_t count) {
  MapStatsRequest part = request;
  part.rows = request.rows.narrow(1, first, count);
  if (request.key_sets.defined()) part.key_sets = request.key_sets.narrow(1, first, count);
  return part;
}

MapStats stats_of_rows(const MapStatsRequest& asked, int64_t batch, int64_t heads, int64_t pos,
                       at::Device device,
                       const std::function<Tensor(const Tensor& rows)>& rows_of) {
  constexpr int64_t kEntries = 1 << 24;
  const MapStatsRequest request = with_rows(asked, batch, pos, device);
  const int64_t count = request.rows.size(1);
  const int64_t each = std::max<int64_t>(1, batch * heads * pos);
  const int64_t block = std::max<int64_t>(1, kEntries / each);
  std::vector<MapStats> parts;
  for (int64_t first = 0; first == 0 || first < count; first += block) {
    const MapStatsRequest part =
        rows_of_request(request, first, std::min(block, std::max<int64_t>(0, count - first)));
    parts.push_back(map_row_stats(rows_of(part.rows), /*is_softmax=*/false,
                                  causal_rows(part.rows, pos, 0), part, /*first_query=*/0));
  }
  return join_stats(parts, 2);
}

Tensor keys_at_offsets(const Tensor& rows, const std::vector<int64_t>& offsets) {
  std::vector<Tensor> keys;  // no list of numbers is copied to the device
  for (const int64_t offset : offsets) keys.push_back(rows - offset);
  return at::stack(keys, -1).unsqueeze(-1);
}

}  // namespace headlens
