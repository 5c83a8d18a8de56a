// headlens/model: the rule that what must not lose precision is computed in at least float32.
#pragma once

#include <ATen/ATen.h>

#include "headlens/core/dtype.h"

namespace headlens {

/// float64 stays; everything narrower becomes float32.
inline at::ScalarType at_least_float32(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}
inline Tensor at_least_float32(const Tensor& x) {
  return x.to(at_least_float32(x.scalar_type()));
}

}  // namespace headlens
