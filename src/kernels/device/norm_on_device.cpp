// headlens/kernels: norms on a device, after the tensors were checked.
#include "kernels/device/norm_on_device.h"

#include <ATen/ATen.h>

#include "kernels/device/launch.h"
#include "kernels/device/rows.h"
#include "norm.h"

namespace headlens {
namespace {

Tensor like(const Tensor& x, at::ScalarType dtype) {
  return at::empty(x.sizes(), x.options().dtype(dtype));
}

}  // namespace

AddedNorm rms_norm_on_device(const Tensor& x, const Tensor& addend, const Tensor& weight,
                             double eps, bool plus_one) {
  const DeviceLaunch launch(x);
  const Rows rows(x), added(addend);
  const Tensor scale = weight.contiguous();
  AddedNorm result{addend.defined() ? like(x, x.scalar_type()) : x, like(x, weight.scalar_type())};
  RmsNormParams p{};
  p.x = data_of(rows.values);
  p.addend = data_of(added.values);
  p.weight = data_of(scale);
  p.sum = addend.defined() ? data_of(result.sum) : nullptr;
  p.out = data_of(result.normed);
  p.width = x.size(-1);
  p.rows = p.width > 0 ? x.numel() / p.width : 0;
  p.x_stride = rows.stride;
  p.addend_stride = added.stride;
  p.eps = static_cast<float>(eps);
  p.plus_one = plus_one;
  p.x_dtype = kernel_dtype(x.scalar_type());
  p.out_dtype = kernel_dtype(weight.scalar_type());
  launch.check("rms_norm", launch_rms_norm(p, launch.stream()));
  return result;
}

Tensor gated_norm_on_device(const Tensor& y, const Tensor& gate, const Tensor& weight, double eps,
                            int64_t groups, GatedNorm kind) {
  const DeviceLaunch launch(y);
  const Rows rows(y), gates(gate);
  const Tensor scale = weight.defined() ? weight.contiguous() : weight;
  Tensor out = like(y, gate.scalar_type());
  GatedNormParams p{};
  p.y = data_of(rows.values);
  p.gate = data_of(gates.values);
  p.weight = data_of(scale);
  p.out = data_of(out);
  p.width = y.size(-1);
  p.rows = p.width > 0 ? y.numel() / p.width : 0;
  p.groups = groups;
  p.y_stride = rows.stride;
  p.gate_stride = gates.stride;
  p.eps = static_cast<float>(eps);
  p.order = kind == GatedNorm::GateOnly    ? GateOrder::GateOnly
            : kind == GatedNorm::GateFirst ? GateOrder::GateFirst
                                           : GateOrder::NormFirst;
  p.y_dtype = kernel_dtype(y.scalar_type());
  p.out_dtype = kernel_dtype(gate.scalar_type());
  launch.check("gated_rms_norm", launch_gated_norm(p, launch.stream()));
  return out;
}

}  // namespace headlens
