// headlens/kernels: maps of Mamba-2 heads on a device, after the tensors were checked.
#include "kernels/device/ssd_map_on_device.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/device/launch.h"
#include "kernels/device/map_figures.h"
#include "kernels/map_requests.h"
#include "kernels/ssd_checks.h"
#include "ssd_map.h"

namespace headlens {
namespace {

Tensor with_last_contiguous(const Tensor& x) {
  return x.stride(-1) == 1 ? x : x.contiguous();
}

// The params of tensors, which must outlive them.
SsdMapInputs inputs_of(const SsdMapTensors& t) {
  SsdMapInputs in{};
  in.log_decay = data_of(t.log_decay), in.dt = data_of(t.dt), in.B = data_of(t.B);
  in.C = data_of(t.C);
  in.log_decay_dtype = kernel_dtype(t.log_decay.scalar_type());
  in.B_dtype = kernel_dtype(t.B.scalar_type()), in.C_dtype = kernel_dtype(t.C.scalar_type());
  if (t.dt.defined()) in.dt_dtype = kernel_dtype(t.dt.scalar_type());
  for (int dim = 0; dim < 3; ++dim) {
    in.log_decay_strides[dim] = t.log_decay.stride(dim);
    in.dt_strides[dim] = t.dt.defined() ? t.dt.stride(dim) : 0;
    in.B_strides[dim] = t.B.stride(dim), in.C_strides[dim] = t.C.stride(dim);
  }
  in.batch = t.log_decay.size(0), in.pos = t.log_decay.size(1), in.heads = t.log_decay.size(2);
  in.groups = t.B.size(2), in.d_state = t.B.size(3);
  return in;
}

// bf16 numbers whose sum holds a number of this dtype.
int64_t planes_of(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 1 : dtype == at::kHalf ? 2 : 3;
}

int64_t planes_of(const SsdMapTensors& t) {
  return std::max(planes_of(t.B.scalar_type()), planes_of(t.C.scalar_type()));
}
int64_t filled_up_states(const SsdMapTensors& t) {
  return (t.B.size(3) + 15) / 16 * 16;
}

// Scratch of the streaming figures, kept until the launches are queued.
struct Terms {
  explicit Terms(const SsdMapTensors& t) {
    p.in = inputs_of(t);
    const SsdMapInputs& in = p.in;
    const int64_t tiles = (in.pos + kSsdTile - 1) / kSsdTile;
    p.padded = tiles * kSsdTile, p.states = filled_up_states(t);
    p.planes = planes_of(t);
    p.eights = (in.heads / in.groups + kSsdEight - 1) / kSsdEight;
    p.floor = static_cast<float>(kLogDecayFloor);
    const int64_t slots = in.groups * p.eights * kSsdEight, groups = in.batch * in.groups;
    const auto make = [&](at::ScalarType dtype, int64_t numbers) {
      kept.push_back(at::empty({numbers}, t.B.options().dtype(dtype)));
      return kept.back().data_ptr();
    };
    const auto floats = [&](int64_t n) { return static_cast<float*>(make(at::kFloat, n)); };
    p.B = make(at::kBFloat16, p.planes * groups * p.padded * p.states);
    p.C = make(at::kBFloat16, p.planes * groups * p.padded * p.states);
    p.C_norm = floats(groups * p.padded);
    p.B_norm = floats(groups * tiles), p.B_reach = floats(groups * tiles);
    p.inside = reinterpret_cast<float2*>(floats(2 * in.batch * p.padded * slots));
    p.weight = floats(in.batch * p.padded * slots);
    p.fragments = floats(in.batch * tiles * slots / 8 * 4 * 32 * 2 * 4);
    p.exponent = static_cast<int32_t*>(make(at::kInt, in.batch * tiles * slots));
    p.tile_sum = floats(in.batch * tiles * slots), p.reach = floats(in.batch * tiles * slots);
    p.before = static_cast<double*>(make(at::kDouble, in.batch * (tiles + 1) * slots));
  }

  SsdMapTerms p{};
  std::vector<Tensor> kept;
};

void add_sets(const Terms& terms, const Tensor& keys, const Tensor& mass,
              const DeviceLaunch& launch) {
  const Tensor index = keys.contiguous();
  const SsdMapSetsParams p{terms.p, data_of<int64_t>(index), index.size(2), index.size(3),
                           data_of<float>(mass)};
  launch.check("ssd_map_sets", launch_ssd_map_sets(p, launch.stream()));
}

}  // namespace

Tensor ssd_map_rows_on_device(const SsdMapTensors& given, const Tensor& rows, const Tensor& heads) {
  SsdMapTensors t = given;
  t.B = with_last_contiguous(t.B), t.C = with_last_contiguous(t.C);
  const DeviceLaunch launch(t.B);
  const Tensor row_index = rows.contiguous();
  const Tensor chosen = heads.defined() ? heads.contiguous() : heads;
  SsdMapRowsParams p{};
  p.in = inputs_of(t);
  p.floor = static_cast<float>(kLogDecayFloor);
  p.rows = data_of<int64_t>(row_index), p.chosen = data_of<int64_t>(chosen);
  p.row_count = rows.size(1), p.chosen_count = heads.defined() ? heads.size(0) : p.in.heads;
  const int64_t tiles = (p.in.pos + kSsdTile - 1) / kSsdTile;
  const auto of_double = t.B.options().dtype(at::kDouble);
  const Tensor before = at::empty({p.in.batch, tiles + 1, p.in.heads}, of_double);
  const Tensor sums = at::empty({p.in.batch, p.row_count, p.chosen_count}, of_double);
  Tensor out = at::empty({p.in.batch, p.chosen_count, p.row_count, p.in.pos},
                         t.B.options().dtype(at::kFloat));
  p.before = data_of<double>(before), p.row_sums = data_of<double>(sums);
  p.out = data_of<float>(out);
  launch.check("ssd_map_rows", launch_ssd_map_rows(p, launch.stream()));
  return out;
}

MapStats ssd_map_stats_on_device(const SsdMapTensors& given, const MapStatsRequest& request) {
  SsdMapTensors t = given;
  t.B = with_last_contiguous(t.B), t.C = with_last_contiguous(t.C);
  const int64_t batch = t.log_decay.size(0), pos = t.log_decay.size(1), heads = t.log_decay.size(2);
  const at::Device device = t.log_decay.device();
  const DeviceLaunch launch(t.B);
  if (wants_rows(request, pos) || !ssd_map_stats_fits(planes_of(t), filled_up_states(t))) {
    return figures_of_rows(with_rows(request, batch, pos, device), heads, pos,
                           [&](const Tensor& rows, const Tensor& chosen) {
                             return ssd_map_rows_on_device(t, rows, chosen);
                           });
  }
  const Terms terms(t);
  MapStats stats = empty_figures(request, batch, heads, pos, device);
  const Tensor segments = device_segments(request, pos, terms.p.padded);
  SsdMapStatsParams p{};
  p.terms = terms.p;
  p.entropy = data_of<float>(stats.entropy), p.row_mass = data_of<float>(stats.row_mass);
  p.max = data_of<float>(stats.max), p.argmax = data_of<int64_t>(stats.argmax);
  if (segments.defined()) {
    p.segments = data_of<int32_t>(segments), p.num_segments = request.num_segments;
    p.segment_batch_stride = segments.size(0) > 1 ? terms.p.padded : 0;
    p.segment_mass = data_of<float>(stats.segment_mass);
  }
  launch.check("ssd_map_terms", launch_ssd_map_terms(p.terms, launch.stream()));
  launch.check("ssd_map_sums", launch_ssd_map_sums(p, launch.stream()));
  launch.check("ssd_map_peaks", launch_ssd_map_peaks(p, launch.stream()));
  if (!request.offsets.empty()) {
    const Tensor rows = with_rows({}, batch, pos, device).rows;
    add_sets(terms, keys_at_offsets(rows, request.offsets), stats.offset_mass, launch);
  }
  if (request.key_sets.defined()) add_sets(terms, request.key_sets, stats.set_mass, launch);
  return finished_figures(request, std::move(stats));
}

}  // namespace headlens
