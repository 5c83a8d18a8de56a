// headlens/kernels: figures of map rows, for softmax and state-space maps alike.
#include "headlens/kernels/map_stats.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "headlens/core/dtype.h"

namespace headlens {
namespace {

Tensor entropy_of(const Tensor& p) {
  // The floor only keeps ln 0 away: 0 ln(floor) is 0, in the value and in the gradient.
  const double floor = p.scalar_type() == at::kDouble ? std::numeric_limits<double>::min()
                                                      : std::numeric_limits<float>::min();
  return -(p * p.clamp_min(floor).log()).sum(-1);
}

void add_top(MapStats& stats, const Tensor& p, const Tensor& sees, int64_t top_k) {
  const int64_t found = std::min(top_k, p.size(-1));
  // Keys in the future get a mark below every P, so that they cannot pass for keys with P = 0.
  const auto [values, keys] = p.masked_fill(sees.logical_not(), -1).topk(found, -1);
  const Tensor none = values.lt(0);
  std::vector<int64_t> missing = p.sizes().vec();
  missing.back() = top_k - found;
  stats.top_values = at::cat({values.masked_fill(none, 0), at::zeros(missing, p.options())}, -1);
  stats.top_keys = at::cat({keys.masked_fill(none, -1), at::full(missing, -1, keys.options())}, -1);
}

/// Sums of P [batch, head, row, key] over the keys of each segment: [batch, head, row, segment]
Tensor segment_sums_of(const Tensor& p, const Tensor& segments, int64_t count) {
  const Tensor members = segments.unsqueeze(-1) == at::arange(count, segments.options());
  return at::matmul(p.flatten(1, 2), members.to(p.scalar_type()))
      .reshape({p.size(0), p.size(1), p.size(2), count});
}

/// Sums of P over key sets [batch, row, set, n], negative keys counting nothing: [batch, head, row,
/// set]
Tensor set_sums_of(const Tensor& p, const Tensor& key_sets) {
  const int64_t sets = key_sets.size(2), each = key_sets.size(3);
  const Tensor keys = key_sets.flatten(2).unsqueeze(1);  // [batch, 1, row, set * n]
  const Tensor found = p.gather(-1, keys.clamp_min(0).expand({-1, p.size(1), -1, -1}));
  return found.masked_fill(keys.lt(0), 0).unflatten(-1, {sets, each}).sum(-1);
}

/// The keys at each row's offsets as sets of one, [batch, row, offset, 1]; -1 before the first key.
Tensor offset_sets(const Tensor& rows, const std::vector<int64_t>& offsets, int64_t first_query) {
  const Tensor back = at::tensor(offsets, at::kLong).to(rows.device());
  return (rows.unsqueeze(-1) + first_query - back).clamp_min(-1).unsqueeze(-1);
}

}  // namespace

MapStats map_row_stats(const Tensor& map_rows, bool is_softmax, const Tensor& sees,
                       const MapStatsRequest& request, int64_t first_query) {
  MapStats stats;
  const Tensor p = normalized_rows(map_rows, is_softmax);
  stats.entropy = entropy_of(p);
  stats.row_mass = map_rows.abs().sum(-1);
  if (!is_softmax) stats.log_mass = stats.row_mass.log();
  stats.argmax = p.argmax(-1);
  stats.max = p.gather(-1, stats.argmax.unsqueeze(-1)).squeeze(-1);
  if (request.top_k > 0) add_top(stats, p, sees, request.top_k);
  if (request.segments.defined()) {
    stats.segment_mass = segment_sums_of(p, request.segments, request.num_segments);
  }
  if (!request.offsets.empty()) {
    stats.offset_mass = set_sums_of(p, offset_sets(request.rows, request.offsets, first_query));
  }
  if (request.key_sets.defined()) stats.set_mass = set_sums_of(p, request.key_sets);
  return stats;
}

MapStats join_stats(const std::vector<MapStats>& parts, int64_t dim) {
  const auto join = [&](Tensor MapStats::*field) {
    std::vector<Tensor> tensors;
    for (const MapStats& part : parts) tensors.push_back(part.*field);
    return tensors.front().defined() ? at::cat(tensors, dim) : Tensor();
  };
  MapStats all;
  for (const auto field :
       {&MapStats::entropy, &MapStats::row_mass, &MapStats::max, &MapStats::argmax,
        &MapStats::top_values, &MapStats::top_keys, &MapStats::segment_mass, &MapStats::offset_mass,
        &MapStats::set_mass, &MapStats::log_mass}) {
    all.*field = join(field);
  }
  return all;
}

MapStats mean_over_rows(const MapStats& stats) {
  MapStats means;
  for (const auto field :
       {&MapStats::entropy, &MapStats::row_mass, &MapStats::max, &MapStats::segment_mass,
        &MapStats::offset_mass, &MapStats::set_mass, &MapStats::log_mass}) {
    if ((stats.*field).defined()) means.*field = (stats.*field).mean(2, false, at::kDouble);
  }
  return means;
}

Tensor normalized_rows(const Tensor& rows, bool is_softmax) {
  if (is_softmax) return rows;
  const Tensor size = rows.abs(), mass = size.sum(-1, /*keepdim=*/true);
  return size / mass.masked_fill(mass == 0, 1);
}

}  // namespace headlens
