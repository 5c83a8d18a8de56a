// headlens/kernels: the checked inputs of the Mamba-2 ops.
#pragma once

#include <algorithm>

#include "kernels/tensor_checks.h"

namespace headlens {

/// What an SSD scan reads, in the dtype it computes in. `dt` and `state` may be undefined.
struct SsdInputs {
  Tensor x;          // [batch, pos, head, d_head]
  Tensor log_decay;  // [batch, pos, head]
  Tensor dt;         // [batch, pos, head]
  Tensor B;          // [batch, pos, group, d_state]
  Tensor C;          // [batch, pos, group, d_state]
  Tensor state;      // [batch, head, d_head, d_state]
};

/// Below this an exponential is 0 in every dtype; a floor keeps -inf out of the sums.
inline constexpr double kLogDecayFloor = -1e4;

inline void check_groups(const char* where, int64_t heads, int64_t groups) {
  HEADLENS_CHECK(ShapeError, groups > 0 && heads % groups == 0,
                 "[{}] heads, expected a multiple of {} groups, got {}", where, groups, heads);
}

/// Checks shapes and dtypes (ShapeError); the dtype to compute in.
inline at::ScalarType check_ssd_inputs(const char* where, const SsdInputs& in) {
  const auto& [x, log_decay, dt, B, C, state] = in;
  check_shape(where, "x", x, {-1, -1, -1, -1});
  const int64_t batch = x.size(0), pos = x.size(1), heads = x.size(2);
  HEADLENS_CHECK(ShapeError, pos > 0, "[{}] positions of x, expected at least 1, got 0", where);
  check_shape(where, "log_decay", log_decay, {batch, pos, heads});
  if (dt.defined()) check_shape(where, "dt", dt, {batch, pos, heads});
  check_shape(where, "B", B, {batch, pos, -1, -1});
  check_shape(where, "C", C, B.sizes());
  check_groups(where, heads, B.size(2));
  if (state.defined()) check_shape(where, "state", state, {batch, heads, x.size(3), B.size(3)});
  return compute_dtype(where, {x, log_decay, dt, B, C, state});
}

/// Checks, and converts to the dtype to compute in.
inline SsdInputs checked_ssd_inputs(const char* where, const Tensor& x, const Tensor& log_decay,
                                    const Tensor& dt, const Tensor& B, const Tensor& C,
                                    const Tensor& state) {
  const auto dtype = check_ssd_inputs(where, {x, log_decay, dt, B, C, state});
  return {x.to(dtype), log_decay.to(dtype), to_dtype(dt, dtype),
          B.to(dtype), C.to(dtype),         to_dtype(state, dtype)};
}

}  // namespace headlens
