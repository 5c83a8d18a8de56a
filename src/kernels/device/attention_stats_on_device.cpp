// headlens/kernels: figures of attention rows on a device, after the tensors were checked.
#include "kernels/device/attention_stats_on_device.h"

#include <ATen/ATen.h>

#include <limits>

#include "attention_stats.h"
#include "kernels/device/launch.h"

namespace headlens {
namespace {

/// x with its last dimension contiguous; a copy only where it is not.
Tensor with_rows(const Tensor& x) {
  return x.stride(-1) == 1 || x.size(-1) == 1 ? x : x.contiguous();
}

Tensor index_on(const Tensor& index, const Tensor& like) {
  return index.defined() ? index.to(like.device()).contiguous() : index;
}

/// The outputs, all written by the launch.
MapStats empty_stats(const Tensor& q, const MapStatsRequest& request, int64_t heads, int64_t rows) {
  const auto made = [&](int64_t last, at::ScalarType dtype) {
    std::vector<int64_t> shape{q.size(0), heads, rows};
    if (last >= 0) shape.push_back(last);
    return at::empty(shape, q.options().dtype(dtype));
  };
  MapStats stats;
  stats.log_mass = made(-1, at::kFloat);
  stats.entropy = made(-1, at::kFloat);
  stats.max = made(-1, at::kFloat);
  stats.argmax = made(-1, at::kLong);
  if (request.top_k > 0) {
    stats.top_values = made(request.top_k, at::kFloat);
    stats.top_keys = made(request.top_k, at::kLong);
  }
  if (request.segments.defined()) stats.segment_mass = made(request.num_segments, at::kFloat);
  if (!request.offsets.empty()) {
    stats.offset_mass = made(static_cast<int64_t>(request.offsets.size()), at::kFloat);
  }
  if (request.key_sets.defined()) stats.set_mass = made(request.key_sets.size(2), at::kFloat);
  return stats;
}

void set_inputs(AttentionStatsParams& p, const Tensor& q, const Tensor& k,
                const AttentionRule& rule) {
  p.q = data_of(q);
  p.k = data_of(k);
  for (int i = 0; i < 3; ++i) {
    p.q_stride[i] = q.stride(i);
    p.k_stride[i] = k.stride(i);
  }
  p.batch = static_cast<int>(q.size(0));
  p.queries = static_cast<int>(q.size(1));
  p.keys = static_cast<int>(k.size(1));
  p.heads = static_cast<int>(q.size(2));
  p.kv_heads = static_cast<int>(k.size(2));
  p.d_head = static_cast<int>(q.size(3));
  p.dtype = kernel_dtype(q.scalar_type());
  p.scale = static_cast<float>(rule.scale);
  p.softcap = static_cast<float>(rule.softcap);
  p.window = rule.window < k.size(1) ? static_cast<int>(rule.window) : 0;
}

void set_outputs(AttentionStatsParams& p, const MapStats& stats) {
  p.lse = data_of<float>(stats.log_mass);
  p.entropy = data_of<float>(stats.entropy);
  p.max = data_of<float>(stats.max);
  p.argmax = data_of<int64_t>(stats.argmax);
  p.segment_mass = data_of<float>(stats.segment_mass);
  p.top_values = data_of<float>(stats.top_values);
  p.top_keys = data_of<int64_t>(stats.top_keys);
  p.offset_mass = data_of<float>(stats.offset_mass);
  p.set_mass = data_of<float>(stats.set_mass);
}

}  // namespace

MapStats attention_stats_on_device(const Tensor& q_given, const Tensor& k_given,
                                   const AttentionRule& rule, const MapStatsRequest& request) {
  const DeviceLaunch launch(q_given);
  const Tensor q = with_rows(q_given), k = with_rows(k_given);
  const Tensor rows = index_on(request.rows, q), heads = index_on(request.heads, q),
               segments = index_on(request.segments, q), sets = index_on(request.key_sets, q),
               first = index_on(rule.first, q);
  const int64_t head_count = heads.defined() ? heads.size(0) : q.size(2),
                row_count = rows.defined() ? rows.size(1) : q.size(1);
  MapStats stats = empty_stats(q, request, head_count, row_count);
  AttentionStatsParams p{};
  set_inputs(p, q, k, rule);
  set_outputs(p, stats);
  p.first = data_of<int64_t>(first);
  p.rows = data_of<int64_t>(rows);
  p.head_index = data_of<int64_t>(heads);
  p.row_count = static_cast<int>(row_count);
  p.head_count = static_cast<int>(head_count);
  p.segments = data_of<int64_t>(segments);
  if (segments.defined()) {
    p.segment_stride = segments.size(0) == 1 ? 0 : segments.size(1);
    p.num_segments = static_cast<int>(request.num_segments);
  }
  p.top_k = static_cast<int>(request.top_k);
  for (const int64_t offset : request.offsets) {
    p.offsets[p.offset_count++] = static_cast<int>(std::clamp<int64_t>(
        offset, std::numeric_limits<int>::min() / 2, std::numeric_limits<int>::max() / 2));
  }
  if (sets.defined()) {
    p.key_sets = data_of<int64_t>(sets);
    p.set_count = static_cast<int>(sets.size(2));
    p.set_size = static_cast<int>(sets.size(3));
  }
  const Tensor workspace =
      at::empty({static_cast<int64_t>(attention_stats_workspace(p))}, q.options().dtype(at::kByte));
  p.workspace = data_of(workspace);
  launch.check("attention_stats", launch_attention_stats(p, launch.stream()));
  // A row's probabilities sum to 1, or to 0 where it sees nothing.
  stats.row_mass = stats.log_mass.isfinite().to(at::kFloat);
  return stats;
}

}  // namespace headlens
