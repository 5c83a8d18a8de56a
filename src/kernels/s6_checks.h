// headlens/kernels: the checked inputs of the Mamba-1 ops.
#pragma once

#include "kernels/tensor_checks.h"

namespace headlens {

/// What an S6 scan reads, in the dtype it computes in. `state` may be undefined.
struct S6Inputs {
  Tensor x;      // [batch, pos, channel]
  Tensor dt;     // [batch, pos, channel]
  Tensor A;      // [channel, d_state]
  Tensor B;      // [batch, pos, d_state]
  Tensor C;      // [batch, pos, d_state]
  Tensor state;  // [batch, channel, d_state]
};

/// Checks shapes and that all are floating point (ShapeError); returns the dtype to compute in.
inline at::ScalarType check_s6(const char* where, const Tensor& x, const Tensor& dt,
                               const Tensor& A, const Tensor& B, const Tensor& C,
                               const Tensor& state) {
  check_shape(where, "x", x, {-1, -1, -1});
  const int64_t batch = x.size(0), pos = x.size(1), channels = x.size(2);
  HEADLENS_CHECK(ShapeError, pos > 0, "[{}] positions of x, expected at least 1, got 0", where);
  check_shape(where, "dt", dt, {batch, pos, channels});
  check_shape(where, "A", A, {channels, -1});
  check_shape(where, "B", B, {batch, pos, A.size(1)});
  check_shape(where, "C", C, {batch, pos, A.size(1)});
  if (state.defined()) check_shape(where, "state", state, {batch, channels, A.size(1)});
  return compute_dtype(where, {x, dt, A, B, C, state});
}

/// Checks and converts.
inline S6Inputs checked_s6_inputs(const char* where, const Tensor& x, const Tensor& dt,
                                  const Tensor& A, const Tensor& B, const Tensor& C,
                                  const Tensor& state) {
  const auto dtype = check_s6(where, x, dt, A, B, C, state);
  return {x.to(dtype), dt.to(dtype), A.to(dtype), B.to(dtype), C.to(dtype), to_dtype(state, dtype)};
}

}  // namespace headlens
