// headlens/kernels: depthwise causal convolution over positions.
#include "headlens/kernels/causal_conv1d.h"

#include <ATen/ATen.h>

#include "kernels/tensor_checks.h"

namespace headlens {

CausalConvResult causal_conv1d(const Tensor& x, const Tensor& weight, const Tensor& bias,
                               const Tensor& state) {
  const char* where = "causal_conv1d";
  check_shape(where, "x", x, {-1, -1, -1});
  const int64_t batch = x.size(0), pos = x.size(1), channels = x.size(2);
  check_shape(where, "weight", weight, {channels, -1});
  const int64_t d_conv = weight.size(1);
  if (bias.defined()) check_shape(where, "bias", bias, {channels});
  if (state.defined()) check_shape(where, "state", state, {batch, d_conv - 1, channels});

  const auto dtype = compute_dtype(where, {x, weight, bias, state});
  const Tensor before = state.defined() ? state.to(x.scalar_type())
                                        : at::zeros({batch, d_conv - 1, channels}, x.options());
  const Tensor inputs = at::cat({before, x}, 1);  // [batch, d_conv - 1 + pos, channel]
  const Tensor wide = inputs.to(dtype), taps = weight.to(dtype);
  // One multiply-add a tap over whole sequences: channels stay innermost, nothing is unfolded.
  Tensor y = wide.narrow(1, 0, pos) * taps.select(1, 0);
  for (int64_t k = 1; k < d_conv; ++k) {
    y = at::addcmul(y, wide.narrow(1, k, pos), taps.select(1, k));
  }
  if (bias.defined()) y = y + bias.to(dtype);
  return {y.to(x.scalar_type()), inputs.narrow(1, pos, d_conv - 1).clone()};
}

}  // namespace headlens
