// headlens/kernels: the operations of one decoding step over preallocated caches.
#include "headlens/kernels/decode.h"

#include <ATen/ATen.h>

#include <limits>

#include "headlens/kernels/activation.h"
#include "headlens/kernels/norm.h"
#include "kernels/device/decode_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/tensor_checks.h"

namespace headlens {
namespace {

Tensor activated(const Tensor& x, std::optional<Activation> activation) {
  return activation ? activate(x, *activation) : x;
}

void check_linear(const Tensor& x, const DecodeLinear& linear, const Tensor& residual,
                  const Tensor& y) {
  const char* where = "decode_linear";
  check_shape(where, "x", x, {-1, -1});
  const size_t count = linear.weights.size();
  HEADLENS_CHECK(ShapeError, linear.gated ? count == 2 : count >= 1 && count <= 3,
                 "[{}] weights, expected {}, got {}", where, linear.gated ? "2" : "1 to 3", count);
  for (size_t i = 0; i < count; ++i) {
    check_shape(where, "weight", linear.weights[i], {-1, x.size(1)});
    if (i >= linear.biases.size() || !linear.biases[i].defined()) continue;
    check_shape(where, "bias", linear.biases[i], {linear.weights[i].size(0)});
  }
  HEADLENS_CHECK(ShapeError,
                 !linear.gated || linear.weights[0].sizes() == linear.weights[1].sizes(),
                 "[{}] up, expected the gate's shape {}, got {}", where,
                 shape_string(linear.weights[0].sizes()), shape_string(linear.weights[1].sizes()));
  if (linear.norm_weight.defined()) {
    check_shape(where, "norm_weight", linear.norm_weight, {x.size(1)});
  }
  check_shape(where, "y", y, {x.size(0), linear.width()});
  if (residual.defined()) check_shape(where, "residual", residual, y.sizes());
}

/// Contiguous and of one dtype, as kernels want them.
bool alike(const Tensor& x, std::initializer_list<Tensor> others) {
  bool same = has_device_kernel(x) && x.is_contiguous();
  for (const Tensor& other : others) {
    if (!other.defined()) continue;
    same = same && other.scalar_type() == x.scalar_type() && other.is_contiguous() &&
           other.device() == x.device();
  }
  return same;
}

bool linear_fits(const Tensor& x, const DecodeLinear& linear, const Tensor& residual,
                 const Tensor& y) {
  bool fits = alike(x, {residual, y, linear.norm_weight});
  for (const Tensor& weight : linear.weights) fits = fits && alike(x, {weight});
  for (const Tensor& bias : linear.biases) fits = fits && alike(x, {bias});
  if constexpr (kDeviceKernels) return fits && decode_linear_fits(x, linear);
  return false;
}

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, const DecodeCache& cache,
                     const AttentionRule& rule) {
  const char* where = "decode_attention";
  check_shape(where, "q", q, {-1, -1, -1});
  check_shape(where, "k", k, {q.size(0), -1, q.size(2)});
  check_shape(where, "v", v, k.sizes());
  HEADLENS_CHECK(ShapeError, k.size(1) > 0 && q.size(1) % k.size(1) == 0,
                 "[{}] heads, expected a multiple of {} key/value heads, got {}", where, k.size(1),
                 q.size(1));
  check_shape(where, "k_cache", cache.k, {q.size(0), -1, k.size(1), q.size(2)});
  check_shape(where, "v_cache", cache.v, cache.k.sizes());
  check_index(where, "position", cache.position, {1});
  if (rule.first.defined()) check_index(where, "first", rule.first, {q.size(0)});
}

/// Heads next to each other, each of them contiguous.
bool heads_lie(const Tensor& x) {
  return x.stride(2) == 1 && x.stride(1) == x.size(2);
}

/// x [batch, head, d]: dimensions (i, i + pairs) rotated by the table's angle at `place` [batch].
Tensor rotated(const Tensor& x, const DecodeTurn& turn, const Tensor& place) {
  const int64_t pairs = turn.cos.size(2);
  const auto at_place = [&](const Tensor& table) {
    const Tensor index = place.view({-1, 1, 1}).expand({-1, 1, pairs});
    return table.expand({place.size(0), -1, -1}).gather(1, index);  // [batch, 1, pair]
  };
  const Tensor cos = at_place(turn.cos), sin = at_place(turn.sin);
  const Tensor a = x.narrow(-1, 0, pairs), b = x.narrow(-1, pairs, pairs);
  const Tensor both = at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(x.scalar_type());
  const int64_t passed = x.size(-1) - 2 * pairs;
  return passed == 0 ? both : at::cat({both, x.narrow(-1, 2 * pairs, passed)}, -1);
}

Tensor turned(const Tensor& x, const Tensor& norm, const DecodeTurn& turn, const Tensor& place) {
  const Tensor normed = norm.defined() ? rms_norm(x, norm, turn.eps, /*plus_one=*/false) : x;
  return turn.cos.defined() ? rotated(normed, turn, place) : normed;
}

/// The pattern's row over the whole cache, and the logsumexp of its scores: [batch, head,
/// max_position] and [batch, head].
std::pair<Tensor, Tensor> whole_row(const Tensor& q, const DecodeCache& cache,
                                    const AttentionRule& rule) {
  const int64_t batch = q.size(0), keys = cache.k.size(1), kv = cache.k.size(2);
  const auto dtype = compute_dtype("decode_attention", {q, cache.k});
  const Tensor grouped = q.to(dtype).view({batch, kv, q.size(1) / kv, q.size(2)}) * rule.scale;
  Tensor scores = at::matmul(grouped, cache.k.to(dtype).permute({0, 2, 3, 1}))
                      .reshape({batch, q.size(1), keys});
  if (rule.softcap > 0) scores = (scores / rule.softcap).tanh() * rule.softcap;
  const Tensor key = at::arange(keys, cache.position.options());
  Tensor sees = (key <= cache.position).unsqueeze(0);
  if (rule.window > 0) sees = sees & (key > cache.position - rule.window).unsqueeze(0);
  if (rule.first.defined()) sees = sees & (key >= rule.first.unsqueeze(1));
  scores =
      scores.masked_fill(sees.logical_not().unsqueeze(1), -std::numeric_limits<double>::infinity());
  return {scores.softmax(-1), scores.logsumexp(-1)};
}

/// On the CPU the position is at hand, so that only the keys there are get read.
Tensor attend_here(const Tensor& q, const DecodeCache& cache, const AttentionRule& rule) {
  const int64_t keys = cache.position.item<int64_t>() + 1;
  return attention(q.unsqueeze(1), cache.k.narrow(1, 0, keys), cache.v.narrow(1, 0, keys), rule)
      .squeeze(1);
}

Tensor attend_there(const Tensor& pattern, const DecodeCache& cache) {
  const int64_t batch = pattern.size(0), heads = pattern.size(1), kv = cache.v.size(2);
  const Tensor grouped = pattern.view({batch, kv, heads / kv, -1});
  return at::matmul(grouped, cache.v.to(pattern.scalar_type()).transpose(1, 2)).flatten(1, 2);
}

}  // namespace

int64_t DecodeLinear::width() const {
  if (gated) return weights.front().size(0);
  int64_t rows = 0;
  for (const Tensor& weight : weights) rows += weight.size(0);
  return rows;
}

void decode_linear(const Tensor& x, const DecodeLinear& linear, const Tensor& residual,
                   const Tensor& y, bool overlap) {
  check_linear(x, linear, residual, y);
  if constexpr (kDeviceKernels) {
    if (linear_fits(x, linear, residual, y)) {
      return decode_linear_on_device(x, linear, residual, y, overlap);
    }
  }
  const Tensor in = linear.norm_weight.defined()
                        ? rms_norm(x, linear.norm_weight, linear.eps, linear.plus_one)
                        : x;
  std::vector<Tensor> parts;
  for (size_t i = 0; i < linear.weights.size(); ++i) {
    const Tensor bias = i < linear.biases.size() ? linear.biases[i] : Tensor();
    parts.push_back(at::linear(in, linear.weights[i], bias));
  }
  Tensor result = linear.gated ? activated(parts[0], linear.activation) * parts[1]
                               : activated(parts.size() == 1 ? parts[0] : at::cat(parts, -1),
                                           linear.activation);
  if (residual.defined()) result = residual + result;
  y.copy_(result);
}

Tensor decode_attention(const Tensor& q, const Tensor& k, const Tensor& v, const DecodeCache& cache,
                        const AttentionRule& rule, const DecodeTurn& turn, DecodeScratch& scratch) {
  check_attention(q, k, v, cache, rule);
  if constexpr (kDeviceKernels) {
    const bool same = has_device_kernel(q) && q.scalar_type() == k.scalar_type() &&
                      alike(cache.k, {cache.v, turn.q_norm, turn.k_norm}) &&
                      q.scalar_type() == cache.k.scalar_type();
    if (same && heads_lie(q) && heads_lie(k) && heads_lie(v) && k.stride(0) == v.stride(0) &&
        decode_attention_fits(cache, turn)) {
      return decode_attention_on_device(q, k, v, cache, rule, turn, scratch);
    }
  }
  Tensor place = cache.position.expand({q.size(0)});
  if (rule.first.defined()) place = (place - rule.first).clamp_min(0);
  const Tensor turned_q = turned(q, turn.q_norm, turn, place);
  cache.k.index_copy_(1, cache.position, turned(k, turn.k_norm, turn, place).unsqueeze(1));
  cache.v.index_copy_(1, cache.position, v.unsqueeze(1));
  if (scratch.q_turned.defined()) scratch.q_turned.copy_(turned_q);
  if (q.is_cpu() && !scratch.log_mass.defined()) {
    return attend_here(turned_q, cache, rule).to(q.scalar_type());
  }
  const auto [pattern, log_mass] = whole_row(turned_q, cache, rule);
  if (scratch.log_mass.defined()) scratch.log_mass.copy_(log_mass);
  return attend_there(pattern, cache).to(q.scalar_type());
}

void decode_rows(const Tensor& q, const DecodeCache& cache, const AttentionRule& rule,
                 const Tensor& log_mass, const Tensor& heads, const Tensor& rows) {
  check_shape("decode_rows", "q", q, {-1, -1, -1});
  check_index("decode_rows", "heads", heads, {-1});
  check_shape("decode_rows", "rows", rows, {q.size(0), heads.size(0), cache.k.size(1)});
  if constexpr (kDeviceKernels) {
    if (log_mass.defined() && alike(q, {cache.k}) && rows.scalar_type() == at::kFloat &&
        rows.is_contiguous() && decode_attention_fits(cache, {})) {
      return decode_rows_on_device(q, cache, rule, log_mass, heads, rows);
    }
  }
  rows.copy_(whole_row(q, cache, rule).first.index_select(1, heads));
}

void decode_embed(const Tensor& table, const Tensor& ids, double scale, const Tensor& out) {
  check_shape("decode_embed", "table", table, {-1, -1});
  check_index("decode_embed", "ids", ids, {-1});
  check_shape("decode_embed", "out", out, {ids.size(0), table.size(1)});
  if constexpr (kDeviceKernels) {
    if (alike(table, {out}) && table.size(1) * element_size(table.scalar_type()) % 16 == 0) {
      return decode_embed_on_device(table, ids, scale, out);
    }
  }
  const Tensor rows = at::embedding(table, ids);
  out.copy_(scale == 1 ? rows : rows * scale);
}

void decode_pick(const Tensor& logits, const Tensor& ids, const Tensor& chosen,
                 const Tensor& position, const Tensor& ticket) {
  check_shape("decode_pick", "logits", logits, {-1, -1});
  check_index("decode_pick", "ids", ids, {logits.size(0)});
  check_index("decode_pick", "chosen", chosen, {logits.size(0), -1});
  check_index("decode_pick", "position", position, {1});
  if constexpr (kDeviceKernels) {
    if (alike(logits, {}) && chosen.is_contiguous()) {
      return decode_pick_on_device(logits, ids, chosen, position, ticket);
    }
  }
  ids.copy_(logits.argmax(-1));
  position.add_(1);
  chosen.index_copy_(1, position, ids.unsqueeze(1));
}

}  // namespace headlens
