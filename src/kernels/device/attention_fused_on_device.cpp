// headlens/kernels: attention and figures in one pass, after the tensors were checked.
#include "kernels/device/attention_fused_on_device.h"

#include <ATen/ATen.h>

#include "attention_fused.h"
#include "kernels/device/launch.h"

namespace headlens {
namespace {

AttentionFusedParams inputs_of(const Tensor& q, const Tensor& k, const Tensor& v) {
  AttentionFusedParams p{};
  p.q = data_of(q);
  p.k = data_of(k);
  p.v = data_of(v);
  for (int i = 0; i < 3; ++i) {
    p.q_stride[i] = q.stride(i);
    p.k_stride[i] = k.stride(i);
    p.v_stride[i] = v.stride(i);
  }
  p.batch = static_cast<int>(q.size(0));
  p.positions = static_cast<int>(q.size(1));
  p.heads = static_cast<int>(q.size(2));
  p.kv_heads = static_cast<int>(k.size(2));
  p.d_head = static_cast<int>(q.size(3));
  p.dtype = kernel_dtype(q.scalar_type());
  return p;
}

/// The outputs, all written by the launch.
AttentionWithStats empty_outputs(const Tensor& q, const MapStatsRequest& request) {
  const std::vector<int64_t> rows{q.size(0), q.size(2), q.size(1)};
  const auto floats = q.options().dtype(at::kFloat);
  AttentionWithStats made;
  made.z = at::empty(q.sizes(), q.options());
  made.stats.log_mass = at::empty(rows, floats);
  made.stats.entropy = at::empty(rows, floats);
  made.stats.max = at::empty(rows, floats);
  made.stats.argmax = at::empty(rows, floats.dtype(at::kLong));
  // A row sees at least its own key.
  made.stats.row_mass = at::ones(rows, floats);
  if (request.segments.defined()) {
    made.stats.segment_mass = at::empty({rows[0], rows[1], rows[2], request.num_segments}, floats);
  }
  return made;
}

}  // namespace

bool attention_fused_serves(const Tensor& q, const Tensor& k, const Tensor& v) {
  for (const Tensor& x : {q, k, v}) {
    if (x.stride(-1) != 1) return false;
  }
  const DeviceLaunch launch(q);
  return attention_fused_fits(inputs_of(q, k, v));
}

AttentionWithStats attention_fused_on_device(const Tensor& q, const Tensor& k, const Tensor& v,
                                             const AttentionRule& rule,
                                             const MapStatsRequest& request) {
  const DeviceLaunch launch(q);
  AttentionFusedParams p = inputs_of(q, k, v);
  p.scale = static_cast<float>(rule.scale);
  const Tensor segments =
      request.segments.defined() ? request.segments.to(q.device()).contiguous() : request.segments;
  if (segments.defined()) {
    p.segments = data_of<int64_t>(segments);
    p.segment_stride = segments.size(0) == 1 ? 0 : segments.size(1);
    p.num_segments = static_cast<int>(request.num_segments);
  }
  AttentionWithStats made = empty_outputs(q, request);
  p.z = data_of(made.z);
  p.lse = data_of<float>(made.stats.log_mass);
  p.entropy = data_of<float>(made.stats.entropy);
  p.max = data_of<float>(made.stats.max);
  p.argmax = data_of<int64_t>(made.stats.argmax);
  p.segment_mass = data_of<float>(made.stats.segment_mass);
  const Tensor workspace =
      at::empty({static_cast<int64_t>(attention_fused_workspace(p))}, q.options().dtype(at::kByte));
  p.workspace = data_of(workspace);
  launch.check("attention_with_stats", launch_attention_fused(p, launch.stream()));
  return made;
}

}  // namespace headlens
