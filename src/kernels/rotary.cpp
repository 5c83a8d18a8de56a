// headlens/kernels: rotation of query and key heads by position.
#include "headlens/kernels/rotary.h"

#include <ATen/ATen.h>

#include "kernels/autograd_support.h"
#include "kernels/device/rotary_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/float_rows.h"
#include "kernels/tensor_checks.h"

namespace headlens {

Tensor rotate_heads(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const char* where = "rotate_heads";
  check_shape(where, "x", x, {-1, -1, -1, -1});
  check_shape(where, "cos", cos, {-1, x.size(1), 1, -1});
  check_shape(where, "sin", sin, cos.sizes());
  const int64_t half = cos.size(-1), passed = x.size(-1) - 2 * half;
  HEADLENS_CHECK(ShapeError, passed >= 0 && (cos.size(0) == 1 || cos.size(0) == x.size(0)),
                 "[{}] cos, expected [1 or {}, {}, 1, up to {}], got {}", where, x.size(0),
                 x.size(1), x.size(-1) / 2, shape_string(cos.sizes()));
  if constexpr (kDeviceKernels) {
    if (has_device_kernel(x) && x.stride(-1) == 1 && cos.scalar_type() == at::kFloat &&
        !records_grad({x, cos, sin})) {
      return rotate_on_device(x, cos, sin);
    }
  }
  const bool rows = x.is_cpu() && x.scalar_type() == at::kFloat && x.stride(-1) == 1;
  if (rows && is_float_rows(cos) && is_float_rows(sin) && !records_grad({x, cos, sin})) {
    return rotate_rows(x, cos, sin);
  }
  const Tensor first = x.narrow(-1, 0, half), second = x.narrow(-1, half, half);
  const Tensor rotated =
      at::cat({first * cos - second * sin, second * cos + first * sin}, -1).to(x.scalar_type());
  return passed == 0 ? rotated : at::cat({rotated, x.narrow(-1, 2 * half, passed)}, -1);
}

}  // namespace headlens
