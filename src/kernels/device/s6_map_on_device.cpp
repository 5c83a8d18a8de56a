// headlens/kernels: maps of Mamba-1 channels on a device, after the tensors were checked.
#include "kernels/device/s6_map_on_device.h"

#include <ATen/ATen.h>

#include "kernels/device/launch.h"
#include "kernels/device/map_figures.h"
#include "kernels/map_requests.h"
#include "s6_map.h"

namespace headlens {
namespace {

Tensor in_float(const Tensor& x) {
  return x.to(at::kFloat).contiguous();
}

// Sums of dt, on the device once they are launched.
struct Steps {
  Steps(const Tensor& dt, bool for_all_rows) : dt_(dt) {
    p.dt = data_of(dt), p.dtype = kernel_dtype(dt.scalar_type());
    p.batch = dt.size(0), p.pos = dt.size(1), p.channels = dt.size(2);
    p.padded = (p.pos + kS6Block - 1) / kS6Block * kS6Block;
    p.batch_stride = dt.stride(0), p.pos_stride = dt.stride(1), p.channel_stride = dt.stride(2);
    before_ =
        at::empty({p.batch, p.channels, p.padded / kS6Tile + 1}, dt.options().dtype(at::kDouble));
    p.before = data_of<double>(before_);
    if (!for_all_rows) return;
    by_channel_ = at::empty({p.batch, p.channels, p.padded}, dt.options().dtype(at::kFloat));
    suffix_ = at::empty_like(by_channel_);
    p.by_channel = data_of<float>(by_channel_), p.suffix = data_of<float>(suffix_);
  }

  void launch_on(const DeviceLaunch& launch) const {
    launch.check("s6_steps", launch_s6_steps(p, launch.stream()));
  }

  S6Steps p{};

 private:
  Tensor dt_, before_, by_channel_, suffix_;
};

// Rows of M with the steps' sums already made.
Tensor rows_of(const Steps& steps, const Tensor& A, const Tensor& B, const Tensor& C,
               const Tensor& rows, const Tensor& channels, const DeviceLaunch& launch) {
  const Tensor row_index = rows.contiguous();
  const Tensor chosen = channels.defined() ? channels.contiguous() : channels;
  S6MapRowsParams p{};
  p.steps = steps.p;
  p.A = data_of<float>(A), p.B = data_of<float>(B), p.C = data_of<float>(C);
  p.rows = data_of<int64_t>(row_index), p.chosen = data_of<int64_t>(chosen);
  p.row_count = rows.size(1), p.d_state = A.size(1);
  p.chosen_count = channels.defined() ? channels.size(0) : steps.p.channels;
  const Tensor sums =
      at::empty({steps.p.batch, p.row_count, p.chosen_count}, A.options().dtype(at::kDouble));
  Tensor out = at::empty({steps.p.batch, p.chosen_count, p.row_count, steps.p.pos}, A.options());
  p.row_sums = data_of<double>(sums), p.out = data_of<float>(out);
  launch.check("s6_map_rows", launch_s6_map_rows(p, launch.stream()));
  return out;
}

// x [.., state] as float32 with zeros up to kS6States, and up to `length` positions.
Tensor filled_up(const Tensor& x, int64_t length) {
  std::vector<int64_t> pad = {0, kS6States - x.size(-1)};
  if (x.dim() == 3) pad.insert(pad.end(), {0, length - x.size(1)});
  return at::constant_pad_nd(x.to(at::kFloat), pad, 0).contiguous();
}

MapStats all_rows(const S6MapTensors& t, const MapStatsRequest& request) {
  const DeviceLaunch launch(t.dt);
  const Steps steps(t.dt, /*for_all_rows=*/true);
  const S6Steps& s = steps.p;
  const Tensor A = filled_up(t.A, 0), B = filled_up(t.B, s.padded), C = filled_up(t.C, s.padded);
  MapStats stats = empty_figures(request, s.batch, s.channels, s.pos, t.dt.device());
  const Tensor segments = device_segments(request, s.pos, s.padded);
  S6MapStatsParams p{};
  p.steps = s;
  p.A = data_of<float>(A), p.B = data_of<float>(B), p.C = data_of<float>(C);
  p.entropy = data_of<float>(stats.entropy), p.row_mass = data_of<float>(stats.row_mass);
  p.max = data_of<float>(stats.max), p.argmax = data_of<int64_t>(stats.argmax);
  if (segments.defined()) {
    p.segments = data_of<int32_t>(segments), p.num_segments = request.num_segments;
    p.segment_batch_stride = segments.size(0) > 1 ? s.padded : 0;
    p.segment_mass = data_of<float>(stats.segment_mass);
  }
  steps.launch_on(launch);
  launch.check("s6_map_stats", launch_s6_map_stats(p, launch.stream()));
  const auto add_sets = [&](const Tensor& keys, const Tensor& mass) {
    const Tensor index = keys.contiguous();
    const S6MapSetsParams sets{s,
                               p.A,
                               p.B,
                               p.C,
                               data_of<int64_t>(index),
                               index.size(2),
                               index.size(3),
                               data_of<float>(mass)};
    launch.check("s6_map_sets", launch_s6_map_sets(sets, launch.stream()));
  };
  if (!request.offsets.empty()) {
    const Tensor rows = with_rows({}, s.batch, s.pos, t.dt.device()).rows;
    add_sets(keys_at_offsets(rows, request.offsets), stats.offset_mass);
  }
  if (request.key_sets.defined()) add_sets(request.key_sets, stats.set_mass);
  return finished_figures(request, std::move(stats));
}

}  // namespace

Tensor s6_map_rows_on_device(const S6MapTensors& t, const Tensor& rows, const Tensor& channels) {
  const DeviceLaunch launch(t.dt);
  const Steps steps(t.dt, /*for_all_rows=*/false);
  steps.launch_on(launch);
  return rows_of(steps, in_float(t.A), in_float(t.B), in_float(t.C), rows, channels, launch);
}

MapStats s6_map_stats_on_device(const S6MapTensors& t, const MapStatsRequest& request) {
  const int64_t batch = t.dt.size(0), pos = t.dt.size(1), channels = t.dt.size(2);
  if (!wants_rows(request, pos) && t.A.size(1) <= kS6States) return all_rows(t, request);
  const DeviceLaunch launch(t.dt);
  const Steps steps(t.dt, /*for_all_rows=*/false);
  steps.launch_on(launch);
  const Tensor A = in_float(t.A), B = in_float(t.B), C = in_float(t.C);
  return figures_of_rows(with_rows(request, batch, pos, t.dt.device()), channels, pos,
                         [&](const Tensor& rows, const Tensor& chosen) {
                           return rows_of(steps, A, B, C, rows, chosen, launch);
                         });
}

}  // namespace headlens
