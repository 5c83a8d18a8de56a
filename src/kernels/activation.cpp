// headlens/kernels: activations of feed-forward layers.
#include "headlens/kernels/activation.h"

#include <ATen/ATen.h>

#include "kernels/autograd_support.h"
#include "kernels/device/activation_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/tensor_checks.h"

namespace headlens {

Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::Silu:
      return at::silu(x);
    case Activation::Gelu:
      return at::gelu(x);
    case Activation::GeluTanh:
      return at::gelu(x, "tanh");
    case Activation::Relu:
      return at::relu(x);
    case Activation::Relu2:
      return at::relu(x).square();
  }
  return x;
}

Tensor gated_activation(const Tensor& gate, const Tensor& up, Activation activation) {
  check_shape("gated_activation", "up", up, gate.sizes());
  if constexpr (kDeviceKernels) {
    if (has_device_kernel(gate) && gate.scalar_type() == up.scalar_type() &&
        !records_grad({gate, up})) {
      return gated_activation_on_device(gate, up, activation);
    }
  }
  Tensor open = activate(gate, activation);
  return records_grad({gate, up}) || open.scalar_type() != up.scalar_type() ? open * up
                                                                            : open.mul_(up);
}

}  // namespace headlens
