// headlens/kernels: gated activations on a device, after the tensors were checked.
#include "kernels/device/activation_on_device.h"

#include <ATen/ATen.h>

#include "gated_activation.h"
#include "kernels/device/launch.h"
#include "kernels/device/rows.h"

namespace headlens {
namespace {

GateFunction function_of(Activation activation) {
  switch (activation) {
    case Activation::Silu:
      return GateFunction::Silu;
    case Activation::Gelu:
      return GateFunction::Gelu;
    case Activation::GeluTanh:
      return GateFunction::GeluTanh;
    case Activation::Relu:
      return GateFunction::Relu;
    case Activation::Relu2:
      return GateFunction::Relu2;
  }
  return GateFunction::Silu;
}

}  // namespace

Tensor gated_activation_on_device(const Tensor& gate, const Tensor& up, Activation activation) {
  const DeviceLaunch launch(gate);
  const Rows gates(gate), ups(up);
  Tensor out = at::empty(gate.sizes(), gate.options());
  GatedActivationParams p{};
  p.gate = data_of(gates.values);
  p.up = data_of(ups.values);
  p.out = data_of(out);
  p.width = gate.size(-1);
  p.rows = p.width > 0 ? gate.numel() / p.width : 0;
  p.gate_stride = gates.stride;
  p.up_stride = ups.stride;
  p.function = function_of(activation);
  p.dtype = kernel_dtype(gate.scalar_type());
  launch.check("gated_activation", launch_gated_activation(p, launch.stream()));
  return out;
}

}  // namespace headlens
