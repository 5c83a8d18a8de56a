// headlens/kernels: a tensor as rows with one stride between them.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"

namespace headlens {

/// The rows of x [.., width] with one stride between them; copied only if they have several.
struct Rows {
  explicit Rows(const Tensor& x) : values(x.defined() ? x : Tensor()) {
    if (!x.defined()) return;
    bool even = x.stride(-1) == 1 || x.size(-1) == 1;
    for (int64_t dim = 0; dim + 2 < x.dim(); ++dim) {
      even = even && (x.size(dim) == 1 || x.stride(dim) == x.stride(dim + 1) * x.size(dim + 1));
    }
    if (!even) values = x.contiguous();
    if (values.dim() > 1) stride = values.stride(-2);
  }

  Tensor values;
  int64_t stride = 0;
};

}  // namespace headlens
