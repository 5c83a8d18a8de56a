// headlens/model: multipliers that most models do not have.
#pragma once

#include <ATen/ATen.h>

#include "headlens/core/dtype.h"

namespace headlens {

/// x * factor; x itself for a factor of 1.
inline Tensor scaled(const Tensor& x, double factor) {
  return factor == 1 ? x : x * factor;
}

}  // namespace headlens
