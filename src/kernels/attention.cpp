// headlens/kernels: causal softmax attention with grouped heads.
#include "headlens/kernels/attention.h"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/segment_sums.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

void check_heads(const char* where, const Tensor& q, const Tensor& k) {
  check_shape(where, "q", q, {-1, -1, -1, -1});
  check_shape(where, "k", k, {q.size(0), -1, -1, q.size(3)});
  HEADLENS_CHECK(ShapeError, k.size(2) > 0 && q.size(2) % k.size(2) == 0,
                 "[{}] heads, expected a multiple of {} key/value heads, got {}", where, k.size(2),
                 q.size(2));
  HEADLENS_CHECK(ShapeError, q.size(1) <= k.size(1),
                 "[{}] queries, expected at most the {} keys, got {}", where, k.size(1), q.size(1));
}

}  // namespace

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  const char* where = "attention";
  check_heads(where, q, k);
  check_shape(where, "v", v, {k.size(0), k.size(1), k.size(2), -1});
  const int64_t queries = q.size(1), keys = k.size(1);
  Tensor qt = q.transpose(1, 2), kt = k.transpose(1, 2), vt = v.transpose(1, 2);
  Tensor mask;
  if (queries > 1 && queries < keys) {  // is_causal aligns to the top left, so it cannot serve here
    mask = at::ones({queries, keys}, q.options().dtype(at::kBool)).tril_(keys - queries);
  }
  const bool grouped = q.size(2) != k.size(2);
  // Fused kernels take grouped heads without a mask only, and on CUDA only in half precision;
  // without them the whole map would be made.
  const bool fused_takes_groups =
      !mask.defined() && (q.is_cpu() || at::elementSize(q.scalar_type()) == 2);
  if (grouped && !fused_takes_groups) {
    kt = kt.repeat_interleave(q.size(2) / k.size(2), 1);
    vt = vt.repeat_interleave(q.size(2) / k.size(2), 1);
  }
  const bool is_causal = queries == keys && queries > 1;
  return at::scaled_dot_product_attention(
             qt, kt, vt, mask.defined() ? std::optional<Tensor>(mask) : std::nullopt,
             /*dropout_p=*/0.0, is_causal, scale, /*enable_gqa=*/grouped && fused_takes_groups)
      .transpose(1, 2);
}

Tensor attention_score_rows(const Tensor& q, const Tensor& k, double scale, const Tensor& rows,
                            const Tensor& heads) {
  const char* where = "attention_score_rows";
  check_heads(where, q, k);
  check_index(where, "rows", rows, {q.size(0), -1});
  if (heads.defined()) check_index(where, "heads", heads, {-1});
  const auto dtype = compute_dtype(where, {q, k});
  const int64_t batch = q.size(0), row_count = rows.size(1), keys = k.size(1), d_head = q.size(3);
  Tensor chosen = heads.defined() ? q.index_select(2, heads) : q;
  chosen = take_rows(chosen, rows).to(dtype) * scale;  // [batch, row, head, d_head]
  Tensor seen = k;
  if (heads.defined()) seen = k.index_select(2, heads.floor_divide(q.size(2) / k.size(2)));
  // Query heads that share a key head become more rows of one product: k is never repeated.
  const int64_t kv = seen.size(2), shared = chosen.size(2) / std::max<int64_t>(kv, 1);
  chosen = chosen.reshape({batch, row_count, kv, shared, d_head})
               .permute({0, 2, 3, 1, 4})
               .reshape({batch, kv, shared * row_count, d_head});
  const Tensor scores = at::matmul(chosen, seen.to(dtype).permute({0, 2, 3, 1}))
                            .reshape({batch, kv * shared, row_count, keys});
  const Tensor future = causal_rows(rows, keys, keys - q.size(1)).logical_not();
  return scores.masked_fill(future, -std::numeric_limits<double>::infinity());
}

}  // namespace headlens
