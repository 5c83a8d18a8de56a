// headlens/kernels: what the figures of state-space maps on a device have in common.
#include "kernels/device/map_figures.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/device/launch.h"
#include "kernels/map_requests.h"
#include "map_row_stats.h"

namespace headlens {
namespace {

// Offsets are sets of one key, so one kernel serves both.
Tensor keys_asked_for(const MapStatsRequest& request, const Tensor& rows) {
  return request.offsets.empty() ? Tensor() : keys_at_offsets(rows, request.offsets).contiguous();
}

// The figures that every row has of a block [batch, n, row, pos], to be filled by the kernel.
MapStats make_outputs(const Tensor& map, const MapStatsRequest& request, MapRowStatsParams& p) {
  p.batch = map.size(0), p.heads = map.size(1), p.row_count = map.size(2), p.pos = map.size(3);
  const auto of_float = map.options();
  const auto of_index = map.options().dtype(at::kLong);
  MapStats stats;
  stats.entropy = at::empty({p.batch, p.heads, p.row_count}, of_float);
  stats.row_mass = at::empty_like(stats.entropy), stats.max = at::empty_like(stats.entropy);
  stats.argmax = at::empty({p.batch, p.heads, p.row_count}, of_index);
  p.entropy = data_of<float>(stats.entropy), p.row_mass = data_of<float>(stats.row_mass);
  p.max = data_of<float>(stats.max), p.argmax = data_of<int64_t>(stats.argmax);
  if (request.segments.defined()) {
    p.num_segments = request.num_segments;
    stats.segment_mass = at::empty({p.batch, p.heads, p.row_count, p.num_segments}, of_float);
    p.segment_mass = data_of<float>(stats.segment_mass);
  }
  if (request.top_k > 0) {
    p.top_k = static_cast<int>(request.top_k);
    stats.top_values = at::empty({p.batch, p.heads, p.row_count, request.top_k}, of_float);
    stats.top_keys = at::empty({p.batch, p.heads, p.row_count, request.top_k}, of_index);
    p.top_values = data_of<float>(stats.top_values);
    p.top_keys = data_of<int64_t>(stats.top_keys);
  }
  return stats;
}

// Figures of one block of rows [batch, n, row, pos].
MapStats figures_of_block(const Tensor& map, const MapStatsRequest& request) {
  MapRowStatsParams p{};
  MapStats stats = make_outputs(map, request, p);
  const Tensor segments = device_segments(request, p.pos, p.pos);
  const Tensor row_index = request.rows.contiguous();
  p.map = data_of<float>(map), p.rows = data_of<int64_t>(row_index);
  if (segments.defined()) {
    p.segments = data_of<int32_t>(segments);
    p.segment_batch_stride = segments.size(0) > 1 ? p.pos : 0;
  }
  const Tensor offset_keys = keys_asked_for(request, row_index);
  std::vector<Tensor> sets;  // of keys, kept until their launch
  const auto add_sets = [&](const Tensor& keys, Tensor& mass) {
    mass = at::empty({p.batch, p.heads, p.row_count, keys.size(2)}, map.options());
    p.keys = data_of<int64_t>(keys), p.sets = keys.size(2), p.each = keys.size(3);
    p.set_mass = data_of<float>(mass);
  };
  const DeviceLaunch launch(map);
  if (offset_keys.defined()) add_sets(offset_keys, stats.offset_mass);
  if (request.key_sets.defined()) {
    if (offset_keys.defined())
      launch.check("map_row_stats", launch_map_row_stats(p, launch.stream()));
    sets.push_back(request.key_sets.contiguous());
    add_sets(sets.back(), stats.set_mass);
  }
  launch.check("map_row_stats", launch_map_row_stats(p, launch.stream()));
  stats.log_mass = stats.row_mass.log();
  return stats;
}

// figure [batch, head, pos, ..] of the heads and rows asked for.
Tensor picked(const MapStatsRequest& request, const Tensor& figure) {
  if (!figure.defined()) return figure;
  Tensor part = request.heads.defined() ? figure.index_select(1, request.heads) : figure;
  if (!request.rows.defined()) return part;
  std::vector<int64_t> shape = part.sizes().vec();
  shape[2] = request.rows.size(1);
  Tensor index = request.rows.unsqueeze(1);
  while (index.dim() < part.dim()) index = index.unsqueeze(-1);
  return part.gather(2, index.expand(shape));
}

}  // namespace

MapStats figures_of_rows(const MapStatsRequest& request, int64_t heads, int64_t pos,
                         const RowsOnDevice& rows_of) {
  constexpr int64_t kEntries = 1 << 25, kLeastHeads = 32;
  const int64_t batch = request.rows.size(0), rows = request.rows.size(1);
  Tensor chosen = request.heads;
  if (!chosen.defined()) chosen = at::arange(heads, request.rows.options());
  const int64_t count = chosen.size(0), each = std::max<int64_t>(1, batch * pos);
  const int64_t head_block = std::clamp<int64_t>(kEntries / each, std::min(kLeastHeads, count),
                                                 std::max<int64_t>(1, count));
  const int64_t row_block =
      std::max<int64_t>(1, kEntries / std::max<int64_t>(1, each * head_block));
  std::vector<MapStats> by_head;
  for (int64_t h = 0; h == 0 || h < count; h += head_block) {
    const Tensor part = chosen.narrow(0, h, std::min(head_block, count - h));
    std::vector<MapStats> by_row;
    for (int64_t r = 0; r == 0 || r < rows; r += row_block) {
      const MapStatsRequest asked = rows_of_request(request, r, std::min(row_block, rows - r));
      by_row.push_back(figures_of_block(rows_of(asked.rows.contiguous(), part), asked));
    }
    by_head.push_back(by_row.size() == 1 ? by_row[0] : join_stats(by_row, 2));
  }
  return by_head.size() == 1 ? by_head[0] : join_stats(by_head, 1);
}

bool wants_rows(const MapStatsRequest& request, int64_t pos) {
  if (request.top_k > 0) return true;
  if (!request.rows.defined()) return false;
  // Every row by products costs about as much as a few tens of rows one by one.
  constexpr int64_t kAsCheapAsAll = 16;
  return request.key_sets.defined() || request.rows.size(1) * kAsCheapAsAll <= pos ||
         request.rows.size(1) < kAsCheapAsAll;
}

Tensor device_segments(const MapStatsRequest& request, int64_t pos, int64_t padded) {
  if (!request.segments.defined()) return {};
  const Tensor ids = request.segments;
  const Tensor known = ids.masked_fill(ids.lt(0).logical_or(ids.ge(request.num_segments)), -1);
  return at::constant_pad_nd(known.to(at::kInt), {0, padded - pos}, -1).contiguous();
}

MapStats empty_figures(const MapStatsRequest& request, int64_t batch, int64_t heads, int64_t pos,
                       at::Device device) {
  const auto of_float = at::TensorOptions().dtype(at::kFloat).device(device);
  MapStats stats;
  stats.entropy = at::empty({batch, heads, pos}, of_float);
  stats.row_mass = at::empty_like(stats.entropy), stats.max = at::empty_like(stats.entropy);
  stats.argmax = at::empty({batch, heads, pos}, of_float.dtype(at::kLong));
  const auto zeros = [&](int64_t last) { return at::zeros({batch, heads, pos, last}, of_float); };
  if (request.segments.defined()) stats.segment_mass = zeros(request.num_segments);
  if (!request.offsets.empty()) {
    stats.offset_mass = zeros(static_cast<int64_t>(request.offsets.size()));
  }
  if (request.key_sets.defined()) stats.set_mass = zeros(request.key_sets.size(2));
  return stats;
}

MapStats finished_figures(const MapStatsRequest& request, MapStats stats) {
  Tensor mass;
  for (Tensor* part : {&stats.segment_mass, &stats.offset_mass, &stats.set_mass}) {
    if (!part->defined()) continue;
    if (!mass.defined()) mass = stats.row_mass.masked_fill(stats.row_mass == 0, 1).unsqueeze(-1);
    part->div_(mass);
  }
  stats.log_mass = stats.row_mass.log();
  for (Tensor MapStats::*field :
       {&MapStats::entropy, &MapStats::row_mass, &MapStats::max, &MapStats::argmax,
        &MapStats::segment_mass, &MapStats::offset_mass, &MapStats::set_mass,
        &MapStats::log_mass}) {
    stats.*field = picked(request, stats.*field);
  }
  return stats;
}

}  // namespace headlens
