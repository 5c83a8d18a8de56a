// headlens/kernels: figures of softmax attention rows: on the device in one pass, else by blocks of
// rows.
#include "headlens/kernels/attention_stats.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/autograd_support.h"
#include "kernels/device/attention_stats_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

constexpr const char* kWhere = "attention_stats";
constexpr int64_t kMostSegments = 256, kMostOffsets = 8, kMostTop = 16;
constexpr int64_t kBlockEntries = int64_t{1} << 26;  // scores made at once

void check_at_most(const char* what, int64_t value, int64_t most) {
  HEADLENS_CHECK(ShapeError, value >= 0 && value <= most, "[{}] {}, expected 0 to {}, got {}",
                 kWhere, what, most, value);
}

void check_request(const Tensor& q, const Tensor& k, const AttentionRule& rule,
                   const MapStatsRequest& request) {
  check_shape(kWhere, "q", q, {-1, -1, -1, -1});
  check_shape(kWhere, "k", k, {q.size(0), -1, -1, q.size(3)});
  HEADLENS_CHECK(ShapeError, k.size(2) > 0 && q.size(2) % k.size(2) == 0,
                 "[{}] heads, expected a multiple of {} key heads, got {}", kWhere, k.size(2),
                 q.size(2));
  HEADLENS_CHECK(ShapeError, q.size(1) <= k.size(1),
                 "[{}] queries, expected at most the {} keys, got {}", kWhere, k.size(1),
                 q.size(1));
  if (rule.first.defined()) check_index(kWhere, "first", rule.first, {q.size(0)});
  if (request.rows.defined()) check_index(kWhere, "rows", request.rows, {q.size(0), -1});
  if (request.heads.defined()) check_index(kWhere, "heads", request.heads, {-1});
  const int64_t rows = request.rows.defined() ? request.rows.size(1) : q.size(1);
  if (request.key_sets.defined()) {
    check_index(kWhere, "key_sets", request.key_sets, {q.size(0), rows, -1, -1});
  }
  if (request.segments.defined()) {
    check_index(kWhere, "segments", request.segments, {-1, k.size(1)});
    const int64_t lists = request.segments.size(0);
    HEADLENS_CHECK(ShapeError, lists == 1 || lists == q.size(0),
                   "[{}] lists of segments, expected 1 or {}, got {}", kWhere, q.size(0), lists);
  }
  check_at_most("num_segments", request.num_segments, kMostSegments);
  check_at_most("offsets", static_cast<int64_t>(request.offsets.size()), kMostOffsets);
  check_at_most("top_k", request.top_k, kMostTop);
}

/// P of rows [batch, row], with its logsumexp; rows that see nothing are 0.
MapStats row_block(const Tensor& q, const Tensor& k, const AttentionRule& rule,
                   const MapStatsRequest& request) {
  const Tensor scores = attention_score_rows(q, k, rule, request.rows, request.heads);
  const int64_t first_query = k.size(1) - q.size(1);
  const Tensor sees = attention_sees(rule, request.rows, k.size(1), first_query);
  // Finite scores for a row that sees nothing, so that neither it nor its gradient is NaN.
  const Tensor none = sees.any(-1, /*keepdim=*/true).logical_not();
  const Tensor p = scores.masked_fill(none, 0).softmax(-1).masked_fill(none, 0);
  MapStats stats = map_row_stats(p, /*is_softmax=*/true, sees, request, first_query);
  stats.log_mass = scores.logsumexp(-1);
  return stats;
}

MapStats by_blocks(const Tensor& q, const Tensor& k, const AttentionRule& rule,
                   MapStatsRequest request) {
  if (!request.rows.defined()) {
    request.rows = at::arange(q.size(1), q.options().dtype(at::kLong)).expand({q.size(0), -1});
  }
  const Tensor rows = request.rows, sets = request.key_sets;
  const int64_t count = rows.size(1);
  const int64_t heads = request.heads.defined() ? request.heads.size(0) : q.size(2);
  const int64_t row_entries = std::max<int64_t>(1, q.size(0) * heads * k.size(1));
  const int64_t block = std::clamp<int64_t>(kBlockEntries / row_entries, 1, 256);
  std::vector<MapStats> parts;
  for (int64_t first = 0; first == 0 || first < count; first += block) {
    const int64_t size = std::min(block, count - first);
    request.rows = rows.narrow(1, first, size);
    if (sets.defined()) request.key_sets = sets.narrow(1, first, size);
    parts.push_back(row_block(q, k, rule, request));
  }
  return join_stats(parts, 2);
}

/// What the kernels take; they scale by a float.
bool fits_kernel(const Tensor& q, const Tensor& k) {
  return has_device_kernel(q) && k.scalar_type() == q.scalar_type() && k.device() == q.device() &&
         q.size(3) <= 256;
}

}  // namespace

MapStats attention_stats(const Tensor& q, const Tensor& k, const AttentionRule& rule,
                         const MapStatsRequest& request) {
  check_request(q, k, rule, request);
  if constexpr (kDeviceKernels) {
    if (fits_kernel(q, k) && !records_grad({q, k})) {
      return attention_stats_on_device(q, k, rule, request);
    }
  }
  return by_blocks(q, k, rule, request);
}

}  // namespace headlens
