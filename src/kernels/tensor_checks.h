// headlens/kernels: shape and dtype checks that every op of this room makes first.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

#include "core/check.h"
#include "headlens/core/dtype.h"

namespace headlens {

/// Throws ShapeError unless `tensor` is defined and of shape `expected`; -1 stands for any size.
inline void check_shape(const char* where, const char* name, const Tensor& tensor,
                        at::IntArrayRef expected) {
  HEADLENS_CHECK(ShapeError, tensor.defined(), "[{}] {}, expected shape {}, got no tensor", where,
                 name, shape_string(expected));
  bool matches = tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; matches && i < expected.size(); ++i) {
    matches = expected[i] == -1 || tensor.size(static_cast<int64_t>(i)) == expected[i];
  }
  HEADLENS_CHECK(ShapeError, matches, "[{}] {}, expected shape {}, got {}", where, name,
                 shape_string(expected), shape_string(tensor.sizes()));
}

/// Throws ShapeError unless `tensor` is int64 of shape `expected`.
inline void check_index(const char* where, const char* name, const Tensor& tensor,
                        at::IntArrayRef expected) {
  check_shape(where, name, tensor, expected);
  HEADLENS_CHECK(ShapeError, tensor.scalar_type() == at::kLong,
                 "[{}] dtype of {}, expected int64, got {}", where, name,
                 dtype_name(tensor.scalar_type()));
}

/// The dtype to compute in: the widest of the inputs (undefined ones do not count), at least
/// float32. Throws ShapeError for an input that is not floating point.
inline at::ScalarType compute_dtype(const char* where, std::initializer_list<Tensor> inputs) {
  at::ScalarType dtype = at::kFloat;
  for (const Tensor& input : inputs) {
    if (!input.defined()) continue;
    HEADLENS_CHECK(ShapeError, at::isFloatingType(input.scalar_type()),
                   "[{}] dtype, expected floating point, got {}", where,
                   dtype_name(input.scalar_type()));
    dtype = at::promoteTypes(dtype, input.scalar_type());
  }
  return dtype;
}

/// `tensor` in `dtype`; an undefined tensor stays undefined.
inline Tensor to_dtype(const Tensor& tensor, at::ScalarType dtype) {
  return tensor.defined() ? tensor.to(dtype) : tensor;
}

}  // namespace headlens
