// headlens/kernels: causal softmax attention with grouped heads.
#include "headlens/kernels/attention.h"

#include <ATen/ATen.h>

#include <limits>

#include "kernels/segment_sums.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void check_heads(const char* where, const Tensor& q, const Tensor& k) {
  check_shape(where, "q", q, {-1, -1, -1, -1});
  check_shape(where, "k", k, {q.size(0), -1, -1, q.size(3)});
  HEADLENS_CHECK(ShapeError, k.size(2) > 0 && q.size(2) % k.size(2) == 0,
                 "[{}] heads, expected a multiple of {} key/value heads, got {}", where, k.size(2),
                 q.size(2));
  HEADLENS_CHECK(ShapeError, q.size(1) <= k.size(1),
                 "[{}] queries, expected at most the {} keys, got {}", where, k.size(1), q.size(1));
}

/// x as [batch, head, pos, d], its heads repeated `copies` times each.
Tensor heads_first(const Tensor& x, int64_t copies) {
  const Tensor first = x.transpose(1, 2);
  return copies == 1 ? first : first.repeat_interleave(copies, 1);
}

/// Every key before the query, uncapped: PyTorch's fused kernels.
Tensor attend_all(const Tensor& q, const Tensor& k, const Tensor& v, double scale) {
  const int64_t queries = q.size(1), keys = k.size(1), copies = q.size(2) / k.size(2);
  std::optional<Tensor> mask;
  if (queries > 1 && queries < keys) {  // is_causal aligns to the top left, so it cannot serve here
    mask = at::ones({queries, keys}, q.options().dtype(at::kBool)).tril_(keys - queries);
  }
  // Fused kernels take grouped heads without a mask only, and on CUDA only in half precision;
  // without them the whole map would be made.
  const bool takes_groups = !mask && (q.is_cpu() || at::elementSize(q.scalar_type()) == 2);
  const int64_t repeats = takes_groups ? 1 : copies;
  const bool is_causal = queries == keys && queries > 1;
  return at::scaled_dot_product_attention(q.transpose(1, 2), heads_first(k, repeats),
                                          heads_first(v, repeats), mask, /*dropout_p=*/0.0,
                                          is_causal, scale, /*enable_gqa=*/repeats < copies)
      .transpose(1, 2);
}

/// Whether PyTorch's flash attention may be called by its own name: it has windows, and aligns
/// queries that go on from cached keys to the last key.
bool flash_takes(const Tensor& q, const Tensor& v, const AttentionRule& rule) {
  return q.is_cuda() && at::elementSize(q.scalar_type()) == 2 && q.size(3) % 8 == 0 &&
         q.size(3) <= 256 && v.size(3) == q.size(3) && rule.softcap == 0 && !rule.first.defined();
}

Tensor attend_flash(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule) {
  std::optional<c10::SymInt> left, right;
  if (rule.window > 0) left = rule.window - 1, right = 0;
  return std::get<0>(at::_flash_attention_forward_symint(
      q, k, v, /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, q.size(1), k.size(1), /*dropout_p=*/0.0,
      /*is_causal=*/true, /*return_debug_mask=*/false, rule.scale, left, right));
}

/// Where SDPA's own choice, cuDNN on Hopper, is worth the 75 ms that it takes to plan for each new
/// shape (docs/performance.md): large squares.
bool is_large(const Tensor& q, const Tensor& k) {
  if (q.size(1) != k.size(1)) return false;
  const auto rows = static_cast<double>(q.size(0) * q.size(2) * q.size(1));
  const double pairs = rows * static_cast<double>(q.size(1)) / 2;
  return 4 * pairs * static_cast<double>(q.size(3)) >= 3e10;
}

/// scores [.., row, key] -> capped and masked, in their dtype
Tensor finish_scores(const Tensor& scores, const Tensor& sees, double softcap) {
  const Tensor capped = softcap > 0 ? (scores / softcap).tanh() * softcap : scores;
  return capped.masked_fill(sees.logical_not(), -kInfinity);
}

/// One block of queries over the keys they can see; sees [batch or 1, 1, row, key].
Tensor attend_block(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule,
                    const Tensor& sees) {
  const int64_t copies = q.size(2) / k.size(2);
  const Tensor kt = heads_first(k, copies), vt = heads_first(v, copies);
  if (rule.softcap == 0) {
    return at::scaled_dot_product_attention(q.transpose(1, 2), kt, vt, sees, /*dropout_p=*/0.0,
                                            /*is_causal=*/false, rule.scale)
        .transpose(1, 2);
  }
  const auto dtype = compute_dtype("attention", {q, k});
  const Tensor scores =
      at::matmul((q.transpose(1, 2).to(dtype) * rule.scale), kt.to(dtype).transpose(2, 3));
  const Tensor pattern = finish_scores(scores, sees, rule.softcap).softmax(-1);
  return at::matmul(pattern, vt.to(dtype)).to(v.scalar_type()).transpose(1, 2);
}

/// Windows, soft caps and padding: blocks of queries, each over the keys within its reach.
Tensor attend_by_blocks(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionRule& rule) {
  constexpr int64_t kBlock = 256;
  const int64_t batch = q.size(0), queries = q.size(1), first_query = k.size(1) - queries;
  const auto index = q.options().dtype(at::kLong);
  std::vector<Tensor> blocks;
  for (int64_t from = 0; from < queries; from += kBlock) {
    const int64_t count = std::min(kBlock, queries - from), end = first_query + from + count;
    const int64_t low = rule.window > 0 ? std::max<int64_t>(0, end - count - rule.window + 1) : 0;
    const Tensor rows = at::arange(from, from + count, index).expand({batch, count});
    Tensor sees = attention_sees(rule, rows, end, first_query).slice(-1, low);
    Tensor alone;  // padding sees nothing: itself then, and 0 afterwards, so that nothing is NaN
    if (rule.first.defined()) {
      alone = sees.any(-1, /*keepdim=*/true).logical_not();
      sees = sees | alone;
    }
    const Tensor z = attend_block(q.narrow(1, from, count), k.slice(1, low, end),
                                  v.slice(1, low, end), rule, sees);
    blocks.push_back(alone.defined() ? z.masked_fill(alone.transpose(1, 2), 0) : z);
  }
  return at::cat(blocks, 1);
}

}  // namespace

Tensor attention_sees(const AttentionRule& rule, const Tensor& rows, int64_t keys,
                      int64_t first_query) {
  Tensor sees = causal_rows(rows, keys, first_query);
  const Tensor key = at::arange(keys, rows.options());
  if (rule.window > 0) {
    sees = sees & (key > (rows + (first_query - rule.window)).unsqueeze(1).unsqueeze(-1));
  }
  if (rule.first.defined()) {
    sees = sees & (key >= rule.first.to(rows.device()).view({-1, 1, 1, 1}));
  }
  return sees;
}

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionRule& rule) {
  check_heads("attention", q, k);
  check_shape("attention", "v", v, {k.size(0), k.size(1), k.size(2), -1});
  if (rule.first.defined()) check_index("attention", "first", rule.first, {q.size(0)});
  const bool sees_all = rule.window == 0 || rule.window >= k.size(1);
  if (flash_takes(q, v, rule) && !(sees_all && is_large(q, k))) return attend_flash(q, k, v, rule);
  if (sees_all && rule.softcap == 0 && !rule.first.defined()) {
    return attend_all(q, k, v, rule.scale);
  }
  return attend_by_blocks(q, k, v, rule);
}

Tensor attention_score_rows(const Tensor& q, const Tensor& k, const AttentionRule& rule,
                            const Tensor& rows, const Tensor& heads) {
  const char* where = "attention_score_rows";
  check_heads(where, q, k);
  check_index(where, "rows", rows, {q.size(0), -1});
  if (heads.defined()) check_index(where, "heads", heads, {-1});
  if (rule.first.defined()) check_index(where, "first", rule.first, {q.size(0)});
  const auto dtype = compute_dtype(where, {q, k});
  const int64_t batch = q.size(0), row_count = rows.size(1), keys = k.size(1), d_head = q.size(3);
  Tensor chosen = heads.defined() ? q.index_select(2, heads) : q;
  chosen = take_rows(chosen, rows).to(dtype) * rule.scale;  // [batch, row, head, d_head]
  Tensor seen = k;
  if (heads.defined()) seen = k.index_select(2, heads.floor_divide(q.size(2) / k.size(2)));
  // Query heads that share a key head become more rows of one product: k is never repeated.
  const int64_t kv = seen.size(2), shared = chosen.size(2) / std::max<int64_t>(kv, 1);
  chosen = chosen.reshape({batch, row_count, kv, shared, d_head})
               .permute({0, 2, 3, 1, 4})
               .reshape({batch, kv, shared * row_count, d_head});
  const Tensor scores = at::matmul(chosen, seen.to(dtype).permute({0, 2, 3, 1}))
                            .reshape({batch, kv * shared, row_count, keys});
  return finish_scores(scores, attention_sees(rule, rows, keys, keys - q.size(1)), rule.softcap);
}

}  // namespace headlens
