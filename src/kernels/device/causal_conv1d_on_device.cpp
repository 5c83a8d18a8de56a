// headlens/kernels: the causal convolution on a device, with gradients, after the checks.
#include "kernels/device/causal_conv1d_on_device.h"

#include <ATen/ATen.h>

#include "causal_conv1d.h"
#include "kernels/autograd_support.h"
#include "kernels/causal_conv1d_composed.h"
#include "kernels/device/launch.h"
#include "kernels/device_kernels.h"

namespace headlens {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Weight and bias in x's dtype or float32, all contiguous but for x's positions.
ConvArguments prepared(const ConvArguments& in) {
  const auto dtype = in.x.scalar_type();
  const bool same =
      in.weight.scalar_type() == dtype && (!in.bias.defined() || in.bias.scalar_type() == dtype);
  const auto as = [](const Tensor& t, at::ScalarType to) {
    return t.defined() ? t.to(to).contiguous() : t;
  };
  const auto of_weight = same ? dtype : at::kFloat;
  const bool dense = in.x.size(2) == 1 || in.x.stride(2) == 1;
  return {dense ? in.x : in.x.contiguous(), as(in.weight, of_weight), as(in.bias, of_weight),
          as(in.state, dtype)};
}

ConvInputs inputs_of(const ConvArguments& in) {
  ConvInputs p{};
  p.x = data_of(in.x), p.weight = data_of(in.weight), p.bias = data_of(in.bias);
  p.state = data_of(in.state);
  p.batch = in.x.size(0), p.pos = in.x.size(1), p.channels = in.x.size(2);
  p.width = in.weight.size(1);
  p.x_batch_stride = in.x.stride(0), p.x_pos_stride = in.x.stride(1);
  p.dtype = kernel_dtype(in.x.scalar_type());
  p.weight_dtype = kernel_dtype(in.weight.scalar_type());
  return p;
}

CausalConvSiluResult forward(const ConvArguments& in, bool y, bool silu, const Tensor& state) {
  const DeviceLaunch launch(in.x);
  CausalConvSiluResult out;
  if (y) out.y = at::empty(in.x.sizes(), in.x.options());
  if (silu) out.silu = at::empty(in.x.sizes(), in.x.options());
  out.state = state;
  if (!state.defined()) {
    out.state = at::empty({in.x.size(0), in.weight.size(1) - 1, in.x.size(2)}, in.x.options());
  }
  ConvForwardParams p{};
  p.in = inputs_of(in);
  p.y = data_of(out.y), p.silu = data_of(out.silu), p.state = data_of(out.state);
  launch.check("causal_conv1d", launch_causal_conv1d(p, launch.stream()));
  return out;
}

Tensor contiguous(const Tensor& t) {
  return t.defined() ? t.contiguous() : t;
}

// Gradients of x, weight, bias and state from those of y, silu and the last state.
variable_list backward(const ConvArguments& in, const Tensor& y, const Tensor& silu,
                       const Tensor& state) {
  const DeviceLaunch launch(in.x);
  const auto like = [](const Tensor& t) {
    return t.defined() ? at::empty(t.sizes(), t.options()) : t;
  };
  const Tensor of_y = contiguous(y), of_silu = contiguous(silu), of_state = contiguous(state);
  variable_list grads = {like(in.x), like(in.weight), like(in.bias), like(in.state)};
  ConvBackwardParams p{};
  p.in = inputs_of(in);
  p.grad_y = data_of(of_y), p.grad_silu = data_of(of_silu), p.grad_state = data_of(of_state);
  p.grad_x = data_of(grads[0]), p.grad_weight = data_of(grads[1]);
  p.grad_bias = data_of(grads[2]), p.grad_before = data_of(grads[3]);
  const Tensor partial = at::empty({conv_backward_rows(p.in), p.in.width + 1, p.in.channels},
                                   in.x.options().dtype(at::kFloat));
  p.partial = data_of<float>(partial);
  launch.check("causal_conv1d backward", launch_causal_conv1d_backward(p, launch.stream()));
  return grads;
}

// Outputs: y, silu (each undefined unless asked for) and the last state.
struct ConvFunction : torch::autograd::Function<ConvFunction> {
  using Maybe = std::optional<Tensor>;

  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                               const Maybe& bias, const Maybe& state, bool y, bool silu) {
    const ConvArguments in{x, weight, bias.value_or(Tensor()), state.value_or(Tensor())};
    const CausalConvSiluResult out = headlens::forward(in, y, silu, {});
    ctx->save_for_backward({in.x, in.weight, in.bias, in.state});
    ctx->saved_data["y"] = y, ctx->saved_data["silu"] = silu;
    ctx->set_materialize_grads(false);
    variable_list all;
    if (y) all.push_back(out.y);
    if (silu) all.push_back(out.silu);
    all.push_back(out.state);
    return all;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const ConvArguments in{saved[0], saved[1], saved[2], saved[3]};
    const bool y = ctx->saved_data["y"].toBool(), silu = ctx->saved_data["silu"].toBool();
    variable_list result;
    if (at::GradMode::is_enabled()) {  // someone wants gradients of gradients
      const CausalConvSiluResult r = causal_conv1d_composed(in.x, in.weight, in.bias, in.state);
      variable_list outputs;
      if (y) outputs.push_back(r.y);
      if (silu) outputs.push_back(r.silu);
      outputs.push_back(r.state);
      result = differentiable_grads(outputs, grads, saved);
    } else {
      result = headlens::backward(in, y ? grads[0] : Tensor(), silu ? grads[y ? 1 : 0] : Tensor(),
                                  grads.back());
    }
    result.resize(6);  // y and silu are no tensors
    return result;
  }
};

}  // namespace

bool conv_fits_device(const ConvArguments& in) {
  if (!has_device_kernel(in.x) || in.x.numel() == 0 || in.x.size(0) > 65535) return false;
  if (in.weight.size(1) < 1 || in.weight.size(1) > kMaxConvWidth) return false;
  for (const Tensor& t : {in.weight, in.bias, in.state}) {
    if (t.defined() && (!has_device_kernel(t) || t.device() != in.x.device())) return false;
  }
  return true;
}

CausalConvSiluResult causal_conv1d_on_device(const ConvArguments& in, bool y, bool silu) {
  const ConvArguments t = prepared(in);
  if (!records_grad({t.x, t.weight, t.bias, t.state})) return forward(t, y, silu, {});
  const variable_list out =
      ConvFunction::apply(t.x, t.weight, if_defined(t.bias), if_defined(t.state), y, silu);
  return {y ? out[0] : Tensor(), silu ? out[y ? 1 : 0] : Tensor(), out.back()};
}

CausalConvSiluResult causal_conv1d_step_on_device(const ConvArguments& in, Tensor& state,
                                                  bool keep_y) {
  return forward(prepared(in), keep_y, /*silu=*/true, state);
}

}  // namespace headlens
