// headlens/kernels: depthwise causal convolution over positions.
#include "headlens/kernels/causal_conv1d.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "kernels/causal_conv1d_composed.h"
#include "kernels/device/causal_conv1d_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

void check(const char* where, const Tensor& x, const Tensor& weight, const Tensor& bias,
           const Tensor& state) {
  check_shape(where, "x", x, {-1, -1, -1});
  check_shape(where, "weight", weight, {x.size(2), -1});
  if (bias.defined()) check_shape(where, "bias", bias, {x.size(2)});
  if (state.defined()) {
    check_shape(where, "state", state, {x.size(0), weight.size(1) - 1, x.size(2)});
  }
  compute_dtype(where, {x, weight, bias, state});
}

struct Convolved {
  Tensor pre;    // [batch, pos, channel] in the dtype computed in
  Tensor state;  // [batch, d_conv - 1, channel] in x's dtype
};

Convolved convolved(const Tensor& x, const Tensor& weight, const Tensor& bias,
                    const Tensor& state) {
  const int64_t pos = x.size(1), d_conv = weight.size(1);
  const auto dtype = compute_dtype("causal_conv1d", {x, weight, bias, state});
  const Tensor before = state.defined()
                            ? state.to(x.scalar_type())
                            : at::zeros({x.size(0), d_conv - 1, x.size(2)}, x.options());
  const Tensor inputs = at::cat({before, x}, 1);  // [batch, d_conv - 1 + pos, channel]
  const Tensor wide = inputs.to(dtype), taps = weight.to(dtype);
  // One multiply-add a tap over whole sequences: channels stay innermost, nothing is unfolded.
  Tensor y = wide.narrow(1, 0, pos) * taps.select(1, 0);
  for (int64_t k = 1; k < d_conv; ++k) {
    y = at::addcmul(y, wide.narrow(1, k, pos), taps.select(1, k));
  }
  if (bias.defined()) y = y + bias.to(dtype);
  return {y, inputs.narrow(1, pos, d_conv - 1).clone()};
}

}  // namespace

CausalConvSiluResult causal_conv1d_composed(const Tensor& x, const Tensor& weight,
                                            const Tensor& bias, const Tensor& state) {
  const Convolved c = convolved(x, weight, bias, state);
  return {c.pre.to(x.scalar_type()), at::silu(c.pre).to(x.scalar_type()), c.state};
}

CausalConvResult causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                               const Tensor& state) {
  check("causal_conv1d", x, weight, bias, state);
  if constexpr (kDeviceKernels) {
    const ConvArguments in{x, weight, bias, state};
    if (conv_fits_device(in)) {
      const CausalConvSiluResult r = causal_conv1d_on_device(in, /*y=*/true, /*silu=*/false);
      return {r.y, r.state};
    }
  }
  const Convolved c = convolved(x, weight, bias, state);
  return {c.pre.to(x.scalar_type()), c.state};
}

CausalConvSiluResult causal_conv1d_silu(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                        const Tensor& state, bool keep_y) {
  check("causal_conv1d_silu", x, weight, bias, state);
  if constexpr (kDeviceKernels) {
    const ConvArguments in{x, weight, bias, state};
    if (conv_fits_device(in)) return causal_conv1d_on_device(in, keep_y, /*silu=*/true);
  }
  CausalConvSiluResult result = causal_conv1d_composed(x, weight, bias, state);
  if (!keep_y) result.y = Tensor();
  return result;
}

CausalConvSiluResult causal_conv1d_silu_step(const Tensor& x, const Tensor& weight,
                                             const Tensor& bias, Tensor& state, bool keep_y) {
  const char* where = "causal_conv1d_silu_step";
  const c10::NoGradGuard no_grad;
  check_shape(where, "x", x, {-1, 1, -1});
  check_shape(where, "state", state, {x.size(0), -1, x.size(2)});
  check(where, x, weight, bias, state);
  HEADLENS_CHECK(ShapeError, state.is_contiguous() && state.scalar_type() == x.scalar_type(),
                 "[{}] state, expected a contiguous tensor of {}, got {}", where,
                 dtype_name(x.scalar_type()), dtype_name(state.scalar_type()));
  if constexpr (kDeviceKernels) {
    const ConvArguments in{x, weight, bias, state};
    if (conv_fits_device(in)) return causal_conv1d_step_on_device(in, state, keep_y);
  }
  CausalConvSiluResult result = causal_conv1d_composed(x, weight, bias, state);
  if (!keep_y) result.y = Tensor();
  result.state = state.copy_(result.state);
  return result;
}

}  // namespace headlens
