// headlens/kernels: root-mean-square norms of rows, one pass each where the device has our code.
#include "headlens/kernels/norm.h"

#include <ATen/ATen.h>

#include "kernels/autograd_support.h"
#include "kernels/device/norm_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/float_rows.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

at::ScalarType at_least_float(const Tensor& x) {
  return at::promote_types(x.scalar_type(), at::kFloat);
}

/// sqrt(mean(x^2) + eps) over the last dimension: [.., width] -> [.., 1]
Tensor root_mean_square(const Tensor& x, double eps) {
  return (x.square().mean(-1, /*keepdim=*/true) + eps).sqrt();
}

/// Kernels take rows of the weight's dtype, or float32 ones beside a narrower weight.
bool fits_kernel(const Tensor& x, const Tensor& weight) {
  return has_device_kernel(x) && has_device_kernel(weight) && x.size(-1) <= kMaxNormWidth &&
         (x.scalar_type() == weight.scalar_type() || x.scalar_type() == at::kFloat);
}

bool fits_rows(const Tensor& x, const Tensor& weight) {
  return is_float_rows(x) && is_float_rows(weight);
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps, bool plus_one) {
  check_shape("rms_norm", "weight", weight, {x.size(-1)});
  if constexpr (kDeviceKernels) {
    if (fits_kernel(x, weight) && !records_grad({x, weight})) {
      return rms_norm_on_device(x, /*addend=*/{}, weight, eps, plus_one).normed;
    }
  }
  if (fits_rows(x, weight) && !records_grad({x, weight})) {
    return rms_norm_of_rows(x, /*addend=*/{}, weight, eps, plus_one).normed;
  }
  const Tensor precise = x.to(at_least_float(x));
  const Tensor normed = precise / root_mean_square(precise, eps);
  const auto dtype = weight.scalar_type();
  if (plus_one) return (normed * (1 + weight.to(at_least_float(weight)))).to(dtype);
  return weight * normed.to(dtype);
}

AddedNorm add_rms_norm(const Tensor& residual, const Tensor& addend, const Tensor& weight,
                       double eps, bool plus_one) {
  check_shape("add_rms_norm", "addend", addend, residual.sizes());
  check_shape("add_rms_norm", "weight", weight, {residual.size(-1)});
  if constexpr (kDeviceKernels) {
    if (fits_kernel(residual, weight) && addend.scalar_type() == weight.scalar_type() &&
        !records_grad({residual, addend, weight})) {
      return rms_norm_on_device(residual, addend, weight, eps, plus_one);
    }
  }
  if (fits_rows(residual, weight) && is_float_rows(addend) &&
      !records_grad({residual, addend, weight})) {
    return rms_norm_of_rows(residual, addend, weight, eps, plus_one);
  }
  const Tensor sum = residual + addend;
  return {sum, rms_norm(sum, weight, eps, plus_one)};
}

Tensor gated_rms_norm(const Tensor& y, const Tensor& gate, const Tensor& weight, double eps,
                      int64_t groups, GatedNorm kind) {
  const char* where = "gated_rms_norm";
  check_shape(where, "gate", gate, y.sizes());
  const bool normed = kind != GatedNorm::GateOnly;
  if (normed) check_shape(where, "weight", weight, {y.size(-1)});
  HEADLENS_CHECK(ShapeError, groups > 0 && y.size(-1) % groups == 0,
                 "[{}] groups, expected a divisor of {}, got {}", where, y.size(-1), groups);
  [[maybe_unused]] const bool same = !normed || weight.scalar_type() == gate.scalar_type();
  if constexpr (kDeviceKernels) {
    if (fits_kernel(y, gate) && same && !records_grad({y, gate, weight})) {
      return gated_norm_on_device(y, gate, weight, eps, groups, kind);
    }
  }
  const Tensor opening = at::silu(gate.to(at_least_float(gate)));
  const Tensor precise = y.to(at_least_float(y));
  Tensor x = kind == GatedNorm::NormFirst ? precise : precise * opening;
  if (normed) {
    const Tensor grouped = x.unflatten(-1, {groups, x.size(-1) / groups});
    x = weight * (grouped / root_mean_square(grouped, eps)).flatten(-2);
  }
  if (kind == GatedNorm::NormFirst) x = x * opening;
  return x.to(gate.scalar_type());
}

}  // namespace headlens
