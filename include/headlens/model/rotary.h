// headlens/model: rotary position embedding (arXiv 2104.09864).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/config.h"

namespace headlens {

/// Radians per position of each rotated pair, [rotary_dim / 2], with Llama-3's stretching where the
/// spec has it.
std::vector<double> rotary_frequencies(const RopeSpec& spec);

/// Cosines and sines of a run of positions, both [pos, 1, rotary_dim / 2].
struct RotaryTable {
  Tensor cos;
  Tensor sin;
};

/// Angles in float64, whatever the model computes in; the table in at least float32.
class Rotary {
 public:
  Rotary(const RopeSpec& spec, at::Device device);

  /// Positions first .. first + count - 1, for tensors of `dtype`.
  RotaryTable table(int64_t first, int64_t count, at::ScalarType dtype) const;

 private:
  Tensor frequencies_;  // [rotary_dim / 2] float64
};

/// Rotates dimensions (i, i + rotary_dim / 2) of each head and leaves those past rotary_dim as they
/// are. x [batch, pos, head, d_head] -> the same shape and dtype.
Tensor rotate(const Tensor& x, const RotaryTable& table);

}  // namespace headlens
