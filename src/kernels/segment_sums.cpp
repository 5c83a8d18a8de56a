// headlens/kernels: sums over stretches of positions, without cancellation.
#include "kernels/segment_sums.h"

#include <ATen/ATen.h>

namespace headlens {
namespace {

// sum_{k>j} of the last dimension.
Tensor sums_after(const Tensor& values) {
  return values.flip({-1}).cumsum(-1).flip({-1}) - values;
}

}  // namespace

Tensor segment_sums(const Tensor& values) {
  const int64_t pos = values.size(-1);
  const Tensor causal =
      at::ones({pos, pos}, values.options().dtype(at::kBool)).tril_();  // [pos, pos]
  if (values.scalar_type() == at::kDouble) {
    const Tensor below = causal.tril(-1);
    return values.unsqueeze(-1)
        .masked_fill(below.logical_not(), 0)
        .cumsum(-2)
        .masked_fill(causal.logical_not(), 0);
  }
  const Tensor total = values.to(at::kDouble).cumsum(-1);  // [.., pos]
  return (total.unsqueeze(-1) - total.unsqueeze(-2))
      .to(values.scalar_type())
      .masked_fill(causal.logical_not(), 0);
}

Tensor row_segment_sums(const Tensor& values, const Tensor& rows) {
  const Tensor future = causal_rows(rows, values.size(-1), 0).logical_not();
  if (values.scalar_type() == at::kDouble) {
    return sums_after(values.unsqueeze(2).masked_fill(future, 0)).masked_fill(future, 0);
  }
  const Tensor total = values.to(at::kDouble).cumsum(-1);  // [batch, head, pos]
  const Tensor index = rows.unsqueeze(1).expand({rows.size(0), values.size(1), rows.size(1)});
  return (total.gather(2, index).unsqueeze(-1) - total.unsqueeze(2))
      .to(values.scalar_type())
      .masked_fill(future, 0);
}

Tensor causal_rows(const Tensor& rows, int64_t keys, int64_t first) {
  return at::arange(keys, rows.options()) <= (rows + first).unsqueeze(1).unsqueeze(-1);
}

Tensor take_rows(const Tensor& values, const Tensor& rows) {
  std::vector<int64_t> shape = values.sizes().vec();
  shape[1] = rows.size(1);
  Tensor index = rows;
  while (index.dim() < values.dim()) index = index.unsqueeze(-1);
  return values.gather(1, index.expand(shape));
}

}  // namespace headlens
