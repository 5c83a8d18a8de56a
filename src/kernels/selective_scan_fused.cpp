// headlens/kernels: the selective scan with bias and softplus before it, skip and gate after it.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "kernels/autograd_support.h"
#include "kernels/device/selective_scan_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/s6_checks.h"
#include "kernels/selective_scan_composed.h"

namespace headlens {
namespace {

void check_fused(const char* where, const ScanArguments& in) {
  check_s6(where, in.x, in.dt, in.A, in.B, in.C, in.state);
  const ScanSurroundings& around = in.around;
  const int64_t channels = in.x.size(2);
  if (around.dt_bias.defined()) check_shape(where, "dt_bias", around.dt_bias, {channels});
  if (around.D.defined()) check_shape(where, "D", around.D, {channels});
  if (around.z.defined()) check_shape(where, "z", around.z, in.x.sizes());
  compute_dtype(where, {around.dt_bias, around.D, around.z});
}

at::ScalarType at_least_float(const Tensor& x) {
  return at::promote_types(x.scalar_type(), at::kFloat);
}

}  // namespace

FusedScanResult selective_scan_composed(const ScanArguments& in, bool readable) {
  const ScanSurroundings& around = in.around;
  const auto dtype = in.x.scalar_type();
  Tensor dt = in.dt;
  if (around.dt_bias.defined()) dt = dt.to(at_least_float(dt)) + around.dt_bias;
  if (around.softplus) dt = at::softplus(dt.to(at_least_float(dt)));
  const auto scan = readable ? selective_scan_reference : selective_scan;
  // In float32 at least, so that what follows rounds once.
  const Tensor x = in.x.to(at_least_float(in.x));
  const SelectiveScanResult result = scan(x, dt, in.A, in.B, in.C, in.state);
  FusedScanResult out;
  out.state = result.state;
  if (around.keep_y) out.y = result.y.to(dtype);
  const Tensor skipped = around.D.defined() ? result.y + around.D * x : result.y;
  if (around.keep_out || !around.z.defined()) out.out = skipped.to(dtype);
  if (!around.z.defined()) return out;
  out.gated = (skipped * at::silu(around.z.to(at_least_float(around.z)))).to(dtype);
  return out;
}

FusedScanResult selective_scan_fused(const Tensor& x, const Tensor& dt, const Tensor& A,
                                     const Tensor& B, const Tensor& C, const Tensor& state,
                                     const ScanSurroundings& around) {
  const ScanArguments in{x, dt, A, B, C, state, around};
  check_fused("selective_scan_fused", in);
  if constexpr (kDeviceKernels) {
    if (scan_fits_device(in)) return selective_scan_on_device(in);
  }
  return selective_scan_composed(in, /*readable=*/false);
}

FusedScanResult selective_scan_step(const Tensor& x, const Tensor& dt, const Tensor& A,
                                    const Tensor& B, const Tensor& C, Tensor& state,
                                    const ScanSurroundings& around) {
  const char* where = "selective_scan_step";
  const c10::NoGradGuard no_grad;
  const ScanArguments in{x, dt, A, B, C, state, around};
  check_shape(where, "x", x, {-1, 1, -1});
  check_shape(where, "state", state, {x.size(0), x.size(2), -1});
  check_fused(where, in);
  HEADLENS_CHECK(ShapeError, state.is_contiguous() && state.scalar_type() == at_least_float(state),
                 "[{}] state, expected a contiguous tensor of float32 or float64, got {}", where,
                 dtype_name(state.scalar_type()));
  if constexpr (kDeviceKernels) {
    if (scan_fits_device(in) && state.scalar_type() == at::kFloat) {
      return selective_scan_step_on_device(in, state);
    }
  }
  FusedScanResult out = selective_scan_composed(in, /*readable=*/false);
  out.state = state.copy_(out.state);
  return out;
}

}  // namespace headlens
