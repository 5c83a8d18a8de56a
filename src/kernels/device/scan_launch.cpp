// headlens/kernels: launches of the selective scan's device code on prepared tensors.
#include "kernels/device/scan_launch.h"

#include <ATen/ATen.h>

#include "kernels/device/launch.h"
#include "selective_scan.h"

namespace headlens {
namespace {

ScanView view_of(const Tensor& t) {
  if (!t.defined()) return {nullptr, 0, 0};
  return {t.data_ptr(), t.stride(0), t.stride(1)};
}

ScanInputs inputs_of(const ScanTensors& in) {
  ScanInputs p{};
  p.batch = in.x.size(0), p.pos = in.x.size(1), p.channels = in.x.size(2), p.d_state = in.A.size(1);
  p.x = view_of(in.x), p.dt = view_of(in.dt), p.B = view_of(in.B), p.C = view_of(in.C);
  p.A = data_of<float>(in.A);
  p.dt_bias = data_of<float>(in.dt_bias);
  p.D = data_of<float>(in.D);
  p.state = data_of<float>(in.state);
  p.dtype = kernel_dtype(in.x.scalar_type());
  p.dt_dtype = kernel_dtype(in.dt.scalar_type());
  p.softplus = in.softplus;
  return p;
}

bool several_passes(const ScanTensors& in) {
  return in.A.size(1) > kScanStates;
}

Tensor floats(const ScanTensors& in, at::IntArrayRef shape) {
  return at::empty(shape, in.x.options().dtype(at::kFloat));
}

Tensor like(const Tensor& t) {
  return at::empty(t.sizes(), t.options());
}

}  // namespace

ScanOutputs scan_forward_on_device(const ScanTensors& in, const ScanWants& wants,
                                   const Tensor& state) {
  const DeviceLaunch launch(in.x);
  const int64_t batch = in.x.size(0), pos = in.x.size(1), channels = in.x.size(2),
                d_state = in.A.size(1);
  ScanOutputs out;
  if (wants.y) out.y = like(in.x);
  if (wants.out) out.out = like(in.x);
  if (wants.gated) out.gated = like(in.x);
  out.state = state.defined() ? state : floats(in, {batch, channels, d_state});
  ScanForwardParams p{};
  p.in = inputs_of(in);
  p.z = view_of(in.z);
  p.y = data_of(out.y), p.skip = data_of(out.out), p.gated = data_of(out.gated);
  p.state = data_of<float>(out.state);
  if (pos == 1 && !wants.saved) {
    launch.check("selective_scan", launch_selective_scan_step(p, launch.stream()));
    return out;
  }
  Tensor sums, carry, dt_sums;
  if (wants.saved) {
    out.saved = floats(in, {batch, (pos + kScanSaveEvery - 1) / kScanSaveEvery, channels, d_state});
  }
  if (several_passes(in)) sums = floats(in, {batch, pos, channels});
  p.pieces = scan_pieces(batch, pos, channels);
  if (p.pieces > 1) {
    carry = floats(in, {batch, p.pieces, channels, d_state});
    dt_sums = floats(in, {batch, p.pieces, channels});
  }
  p.saved = data_of<float>(out.saved), p.sums = data_of<float>(sums);
  p.carry = data_of<float>(carry), p.dt_sums = data_of<float>(dt_sums);
  launch.check("selective_scan", launch_selective_scan(p, launch.stream()));
  return out;
}

ScanTensors scan_backward_on_device(const ScanTensors& in, const Tensor& saved,
                                    const Tensor& grad_out, const Tensor& grad_state) {
  const DeviceLaunch launch(in.x);
  const int64_t batch = in.x.size(0), pos = in.x.size(1), channels = in.x.size(2),
                d_state = in.A.size(1);
  ScanTensors grads;
  grads.x = like(in.x), grads.dt = like(in.dt), grads.B = like(in.B), grads.C = like(in.C);
  grads.A = like(in.A);
  if (in.D.defined()) grads.D = like(in.D);
  if (in.state.defined()) grads.state = like(in.state);
  ScanBackwardParams p{};
  p.in = inputs_of(in);
  p.grad_y = view_of(grad_out);
  p.grad_state = data_of<float>(grad_state);
  p.saved = data_of<float>(saved);
  p.grad_x = data_of(grads.x), p.grad_dt = data_of(grads.dt);
  p.grad_B = data_of(grads.B), p.grad_C = data_of(grads.C);
  p.grad_A = data_of<float>(grads.A), p.grad_D = data_of<float>(grads.D);
  p.grad_before = data_of<float>(grads.state);
  p.pieces = scan_backward_pieces(batch, pos, channels);
  const Tensor partial_A = floats(in, {batch, p.pieces, channels, d_state}),
               partial_D = in.D.defined() ? floats(in, {batch, p.pieces, channels}) : Tensor(),
               rows = floats(in, {scan_channel_blocks(channels), batch, pos, 2, kScanStates});
  Tensor carry, dt_sums, sums;
  if (p.pieces > 1) {
    carry = like(partial_A), dt_sums = floats(in, {batch, p.pieces, channels});
  }
  if (several_passes(in)) sums = floats(in, {2, batch, pos, channels});
  p.partial_A = data_of<float>(partial_A), p.partial_D = data_of<float>(partial_D);
  p.partial_rows = data_of<float>(rows), p.carry = data_of<float>(carry);
  p.dt_sums = data_of<float>(dt_sums), p.sums = data_of<float>(sums);
  launch.check("selective_scan backward", launch_selective_scan_backward(p, launch.stream()));
  if (in.dt_bias.defined())
    grads.dt_bias = grads.dt.sum(at::IntArrayRef({0, 1}), false, at::kFloat);
  return grads;
}

std::pair<Tensor, Tensor> scan_gate_backward_on_device(const Tensor& grad_gated, const Tensor& out,
                                                       const Tensor& z) {
  const DeviceLaunch launch(z);
  const Tensor grad = grad_gated.contiguous();
  const Tensor grad_out = like(out), grad_z = like(out);
  ScanGateBackwardParams p{};
  p.grad_gated = data_of(grad), p.skip = data_of(out), p.z = data_of(z);
  p.grad_skip = data_of(grad_out), p.grad_z = data_of(grad_z);
  p.batch = z.size(0), p.pos = z.size(1), p.channels = z.size(2);
  p.z_batch_stride = z.stride(0), p.z_pos_stride = z.stride(1);
  p.dtype = kernel_dtype(z.scalar_type());
  launch.check("selective_scan gate", launch_scan_gate_backward(p, launch.stream()));
  return {grad_out, grad_z};
}

}  // namespace headlens
