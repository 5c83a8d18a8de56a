// headlens/kernels: the selective scan on a device, with gradients, after the tensors were checked.
#include "kernels/device/selective_scan_on_device.h"

#include <ATen/ATen.h>

#include "kernels/autograd_support.h"
#include "kernels/device/scan_launch.h"
#include "kernels/device_kernels.h"
#include "kernels/selective_scan_composed.h"

namespace headlens {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Its last dimension contiguous, its positions near enough for 32-bit strides.
Tensor rows_of(const Tensor& t, at::ScalarType dtype) {
  if (!t.defined()) return t;
  const Tensor as = t.to(dtype);
  const bool dense = as.size(2) == 1 || as.stride(2) == 1;
  return dense && as.stride(1) >= 0 && as.stride(1) < INT32_MAX ? as : as.contiguous();
}

Tensor floats_of(const Tensor& t) {
  return t.defined() ? t.to(at::kFloat).contiguous() : t;
}

// x's dtype where B, C and z share it, else float32.
at::ScalarType common_dtype(const ScanArguments& in) {
  const auto dtype = in.x.scalar_type();
  const Tensor& z = in.around.z;
  const bool same = in.B.scalar_type() == dtype && in.C.scalar_type() == dtype &&
                    (!z.defined() || z.scalar_type() == dtype);
  return same ? dtype : at::kFloat;
}

ScanTensors prepared(const ScanArguments& in) {
  const auto dtype = common_dtype(in);
  ScanTensors t;
  t.x = rows_of(in.x, dtype), t.B = rows_of(in.B, dtype), t.C = rows_of(in.C, dtype);
  t.dt = rows_of(in.dt, in.dt.scalar_type() == dtype ? dtype : at::kFloat);
  t.z = rows_of(in.around.z, dtype);
  t.A = floats_of(in.A), t.state = floats_of(in.state);
  t.dt_bias = floats_of(in.around.dt_bias), t.D = floats_of(in.around.D);
  t.softplus = in.around.softplus;
  return t;
}

// In the order in which the function below takes and saves them.
variable_list listed(const ScanTensors& t) {
  return {t.x, t.dt, t.A, t.B, t.C, t.state, t.dt_bias, t.D, t.z};
}

ScanTensors unlisted(const variable_list& v, bool softplus) {
  ScanTensors t;
  t.x = v[0], t.dt = v[1], t.A = v[2], t.B = v[3], t.C = v[4], t.state = v[5];
  t.dt_bias = v[6], t.D = v[7], t.z = v[8], t.softplus = softplus;
  return t;
}

// Outputs: gated, or out where there is no z; and the last state.
struct ScanFunction : torch::autograd::Function<ScanFunction> {
  using Maybe = std::optional<Tensor>;

  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& dt,
                               const Tensor& A, const Tensor& B, const Tensor& C,
                               const Maybe& state, const Maybe& dt_bias, const Maybe& D,
                               const Maybe& z, bool softplus) {
    const auto given = [](const Maybe& t) { return t.value_or(Tensor()); };
    const variable_list all = {x, dt, A, B, C, given(state), given(dt_bias), given(D), given(z)};
    const bool gated = z.has_value();
    const ScanOutputs out = scan_forward_on_device(
        unlisted(all, softplus), {.out = true, .gated = gated, .saved = true}, {});
    ctx->save_for_backward(all);
    ctx->saved_data["saved"] = out.saved;
    if (gated) ctx->saved_data["out"] = out.out;
    ctx->saved_data["softplus"] = softplus;
    ctx->set_materialize_grads(false);
    return {gated ? out.gated : out.out, out.state};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const ScanTensors in = unlisted(saved, ctx->saved_data["softplus"].toBool());
    if (at::GradMode::is_enabled()) {  // someone wants gradients of gradients
      const FusedScanResult r = selective_scan_composed(
          {in.x, in.dt, in.A, in.B, in.C, in.state, {in.dt_bias, in.softplus, in.D, in.z}},
          /*readable=*/true);
      variable_list d =
          differentiable_grads({in.z.defined() ? r.gated : r.out, r.state}, grads, saved);
      d.emplace_back();
      return d;
    }
    Tensor grad_out = grads[0].defined() ? grads[0] : at::zeros_like(in.x), grad_z;
    if (in.z.defined()) {
      std::tie(grad_out, grad_z) =
          scan_gate_backward_on_device(grad_out, ctx->saved_data["out"].toTensor(), in.z);
    }
    const Tensor grad_state = floats_of(grads[1]);
    ScanTensors d = scan_backward_on_device(in, ctx->saved_data["saved"].toTensor(),
                                            rows_of(grad_out, in.x.scalar_type()), grad_state);
    d.z = grad_z;
    variable_list list = listed(d);
    list.emplace_back();
    return list;
  }
};

Tensor as(const Tensor& t, at::ScalarType dtype) {
  return t.defined() ? t.to(dtype) : t;
}

}  // namespace

bool scan_fits_device(const ScanArguments& in) {
  if (!has_device_kernel(in.x) || in.x.numel() == 0 || in.A.size(1) == 0) return false;
  if (in.x.size(0) > 65535 || in.x.size(1) >= int64_t{1} << 30) return false;
  for (const Tensor& t :
       {in.dt, in.A, in.B, in.C, in.state, in.around.dt_bias, in.around.D, in.around.z}) {
    if (t.defined() && (!has_device_kernel(t) || t.device() != in.x.device())) return false;
  }
  return true;
}

FusedScanResult selective_scan_on_device(const ScanArguments& in) {
  const ScanTensors t = prepared(in);
  const auto dtype = in.x.scalar_type();
  const ScanSurroundings& around = in.around;
  if (!records_grad({t.x, t.dt, t.A, t.B, t.C, t.state, t.dt_bias, t.D, t.z})) {
    const bool gated = t.z.defined();
    const ScanOutputs out = scan_forward_on_device(
        t, {.y = around.keep_y, .out = around.keep_out || !gated, .gated = gated}, {});
    return {as(out.y, dtype), as(out.out, dtype), as(out.gated, dtype), out.state};
  }
  // What is kept besides has gradients of its own: then D and z are autograd's.
  if (around.keep_y || (around.keep_out && t.z.defined()))
    return selective_scan_composed(in, false);
  const variable_list out =
      ScanFunction::apply(t.x, t.dt, t.A, t.B, t.C, if_defined(t.state), if_defined(t.dt_bias),
                          if_defined(t.D), if_defined(t.z), t.softplus);
  FusedScanResult result;
  (t.z.defined() ? result.gated : result.out) = out[0].to(dtype);
  result.state = out[1];
  return result;
}

FusedScanResult selective_scan_step_on_device(const ScanArguments& in, Tensor& state) {
  const ScanTensors t = prepared(in);
  const auto dtype = in.x.scalar_type();
  const bool gated = t.z.defined();
  const ScanOutputs out = scan_forward_on_device(
      t, {.y = in.around.keep_y, .out = in.around.keep_out || !gated, .gated = gated}, state);
  return {as(out.y, dtype), as(out.out, dtype), as(out.gated, dtype), state};
}

}  // namespace headlens
