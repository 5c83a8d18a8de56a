// headlens/kernels: the Mamba-2 scan on a device, after the tensors were checked.
#include "kernels/device/ssd_on_device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "kernels/device/launch.h"
#include "kernels/device_kernels.h"
#include "ssd_scan.h"

namespace headlens {
namespace {

/// A view whose last dimension is contiguous and whose rows start at multiples of 16 bytes: of the
/// tensor where it is one, else of a copy.
Tensor rows_of(const Tensor& x) {
  const int64_t unit = 16 / static_cast<int64_t>(x.element_size());
  bool fits =
      reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0 && (x.stride(-1) == 1 || x.size(-1) == 1);
  for (int64_t i = 0; i + 1 < x.dim(); ++i) fits = fits && x.stride(i) % unit == 0;
  return fits ? x : x.clone(at::MemoryFormat::Contiguous);
}

SsdView view_of(const Tensor& x) {
  if (!x.defined()) return {};
  return {x.data_ptr(), x.stride(0), static_cast<int>(x.stride(1)), static_cast<int>(x.stride(2))};
}

Tensor single(const Tensor& x) {
  return to_dtype(x, at::kFloat);
}

/// Inputs as the kernels read them, and the params that point into them.
struct DeviceInputs {
  SsdInputs in;
  SsdParams p{};

  explicit DeviceInputs(const SsdInputs& given)
      : in{rows_of(given.x), single(given.log_decay), single(given.dt),
           rows_of(given.B), rows_of(given.C),        single(given.state)} {
    if (in.state.defined()) in.state = in.state.contiguous();
    p.x = view_of(in.x), p.B = view_of(in.B), p.C = view_of(in.C);
    p.log_decay = view_of(in.log_decay), p.dt = view_of(in.dt);
    p.state_in = data_of<const float>(in.state);
    fill_sizes(p, given);
  }

  static void fill_sizes(SsdParams& p, const SsdInputs& in) {
    p.batch = static_cast<int>(in.x.size(0)), p.pos = static_cast<int>(in.x.size(1));
    p.heads = static_cast<int>(in.x.size(2)), p.d_head = static_cast<int>(in.x.size(3));
    p.groups = static_cast<int>(in.B.size(2)), p.d_state = static_cast<int>(in.B.size(3));
    p.dtype = kernel_dtype(in.x.scalar_type());
  }
};

bool fits(const SsdInputs& in) {
  const auto dtype = in.x.scalar_type();
  if (!has_device_kernel(in.x) || in.B.scalar_type() != dtype || in.C.scalar_type() != dtype) {
    return false;
  }
  for (const Tensor& t : {in.log_decay, in.dt, in.B, in.C, in.state}) {
    if (t.defined() && (t.device() != in.x.device() || t.scalar_type() == at::kDouble))
      return false;
  }
  return in.x.numel() > 0 && in.B.numel() > 0 && in.x.size(1) < (int64_t{1} << 30);
}

SsdParams sizes_of(const SsdInputs& in) {
  SsdParams p{};
  DeviceInputs::fill_sizes(p, in);
  return p;
}

Tensor workspace(size_t bytes, const Tensor& like) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

/// Outputs of a scan of any length.
SsdResult make_outputs(DeviceInputs& inputs) {
  const Tensor& x = inputs.in.x;
  SsdResult out{at::empty(x.sizes(), x.options()),
                at::empty({x.size(0), x.size(2), x.size(3), inputs.in.B.size(3)},
                          x.options().dtype(at::kFloat))};
  inputs.p.y = view_of(out.y);
  inputs.p.state_out = data_of<float>(out.state);
  return out;
}

}  // namespace

bool ssd_scan_fits_device(const SsdInputs& in) {
  return fits(in) && ssd_scan_supports(sizes_of(in));
}

bool ssd_backward_fits_device(const SsdInputs& in) {
  if (!fits(in)) return false;
  SsdBackwardParams p{};
  p.forward = sizes_of(in);
  return ssd_backward_supports(p);
}

bool ssd_step_fits_device(const SsdInputs& in) {
  return fits(in) && ssd_step_supports(sizes_of(in));
}

SsdResult ssd_scan_on_device(const SsdInputs& in) {
  const DeviceLaunch launch(in.x);
  DeviceInputs inputs(in);
  SsdResult out = make_outputs(inputs);
  const Tensor space = workspace(ssd_scan_workspace(inputs.p), in.x);
  inputs.p.workspace = data_of<float>(space);
  launch.check("ssd_scan", launch_ssd_scan(inputs.p, launch.stream()));
  return out;
}

SsdResult ssd_step_on_device(const SsdInputs& in) {
  const DeviceLaunch launch(in.x);
  DeviceInputs inputs(in);
  SsdResult out = make_outputs(inputs);
  launch.check("ssd_scan", launch_ssd_step(inputs.p, launch.stream()));
  return out;
}

SsdInputs ssd_backward_on_device(const SsdInputs& in, const Tensor& grad_y,
                                 const Tensor& grad_state) {
  const DeviceLaunch launch(in.x);
  DeviceInputs inputs(in);
  const auto like = [](const Tensor& t) {
    return t.defined() ? at::empty(t.sizes(), t.options()) : t;
  };
  const SsdInputs grads{like(inputs.in.x), like(inputs.in.log_decay), like(inputs.in.dt),
                        like(inputs.in.B), like(inputs.in.C),         like(inputs.in.state)};
  const Tensor dy = rows_of(grad_y.to(in.x.scalar_type()));
  const Tensor dstate = grad_state.defined() ? single(grad_state).contiguous() : grad_state;
  SsdBackwardParams p{};
  p.forward = inputs.p;
  p.grad_y = view_of(dy);
  p.grad_state = data_of<const float>(dstate);
  p.grad_x = view_of(grads.x), p.grad_B = view_of(grads.B), p.grad_C = view_of(grads.C);
  p.grad_log_decay = view_of(grads.log_decay), p.grad_dt = view_of(grads.dt);
  p.grad_state_in = data_of<float>(grads.state);
  const Tensor space = workspace(ssd_backward_workspace(p), in.x);
  p.forward.workspace = data_of<float>(space);
  launch.check("ssd_scan backward", launch_ssd_backward(p, launch.stream()));
  const auto as = [](const Tensor& grad, const Tensor& t) {
    return t.defined() ? grad.to(t.scalar_type()) : t;
  };
  return {grads.x, as(grads.log_decay, in.log_decay), as(grads.dt, in.dt), grads.B,
          grads.C, as(grads.state, in.state)};
}

}  // namespace headlens
