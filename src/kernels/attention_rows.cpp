// headlens/kernels: softmax attention of a few chosen queries over all keys.
#include "headlens/kernels/attention_rows.h"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/tensor_checks.h"

namespace headlens {

Tensor attention_rows(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule,
                      const Tensor& places) {
  const char* where = "attention_rows";
  check_shape(where, "q", q, {-1, -1, -1, -1});
  check_shape(where, "k", k, {q.size(0), -1, -1, q.size(3)});
  check_shape(where, "v", v, {k.size(0), k.size(1), k.size(2), -1});
  check_index(where, "places", places, {q.size(0), q.size(1)});
  const auto dtype = compute_dtype(where, {q, k, v});
  const int64_t batch = q.size(0), n = q.size(1), kv = k.size(2), shared = q.size(2) / kv;
  // Query heads that share a key head become more rows of one product: keys are never repeated.
  const Tensor rows = (q.to(dtype) * rule.scale)
                          .reshape({batch, n, kv, shared, q.size(3)})
                          .permute({0, 2, 3, 1, 4})
                          .reshape({batch, kv, shared * n, q.size(3)});
  Tensor scores = at::matmul(rows, k.to(dtype).permute({0, 2, 3, 1}))
                      .reshape({batch, kv * shared, n, k.size(1)});
  if (rule.softcap > 0) scores = (scores / rule.softcap).tanh() * rule.softcap;
  const Tensor sees = attention_sees(rule, places, k.size(1), /*first_query=*/0);
  scores = scores.masked_fill(sees.logical_not(), -std::numeric_limits<double>::infinity());
  Tensor pattern = scores.softmax(-1);
  if (rule.first.defined()) {  // a query that is padding sees nothing
    pattern = pattern.masked_fill(sees.any(-1, /*keepdim=*/true).logical_not(), 0);
  }
  return at::matmul(pattern.reshape({batch, kv, shared * n, -1}), v.to(dtype).transpose(1, 2))
      .reshape({batch, kv, shared, n, v.size(3)})
      .permute({0, 3, 1, 2, 4})
      .reshape({batch, n, kv * shared, v.size(3)})
      .to(v.scalar_type());
}

}  // namespace headlens
