// headlens/analysis: softmax attention whose backward goes by secants.
#include "analysis/secant_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

namespace headlens {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// ln of the sum of exp over the others of each row, and the mean of `values` under their softmax.
struct Others {
  Tensor log_sum;  // [.., row, key]
  Tensor mean;     // [.., row, key]
};

/// scores (-inf: not seen) and values [.., row, key]
Others of_others(const Tensor& scores, const Tensor& values) {
  const Tensor pattern = scores.softmax(-1), total = scores.logsumexp(-1, /*keepdim=*/true);
  const Tensor weighted = (pattern * values).sum(-1, /*keepdim=*/true);
  // 1 - A is well away from 0 for all but the top key, whose others are summed on their own.
  const Tensor top = scores.argmax(-1, /*keepdim=*/true);
  const Tensor is_top = at::zeros_like(scores, at::kBool).scatter(-1, top, true);
  const Tensor without_top = scores.masked_fill(is_top, -kInfinity);
  const Tensor rest = 1 - pattern;
  const Tensor top_sum = without_top.logsumexp(-1, /*keepdim=*/true);
  const Tensor top_pattern = (without_top - top_sum).exp().nan_to_num(0);
  const Tensor top_mean = (top_pattern * values).sum(-1, /*keepdim=*/true);
  return {at::where(is_top, top_sum, total + rest.log()),
          at::where(is_top, top_mean, (weighted - pattern * values) / rest)};
}

/// dL/ds by secants, from dL/dA: [.., row, key]. Rows that see one key only get 0.
Tensor secants(const Tensor& scores, const Tensor& grad_pattern) {
  const Tensor seen = scores.isneginf().logical_not();
  const Tensor count = seen.sum(-1, /*keepdim=*/true);
  const Tensor sum = scores.masked_fill(seen.logical_not(), 0).sum(-1, /*keepdim=*/true);
  const Tensor others = (sum - scores) / (count - 1);  // the mean score of the row's other keys
  const auto [log_sum, other_mean] = of_others(scores, grad_pattern);
  const Tensor odds = scores - log_sum, distance = scores - others;
  const Tensor now = odds.sigmoid(), then = (odds - distance).sigmoid();
  // Close to the mean the quotient loses its digits, and the slope is as good.
  const Tensor close = distance.abs().lt(1e-3);
  const Tensor slope = at::where(close, now * (-odds).sigmoid(), (now - then) / distance);
  return (slope * (grad_pattern - other_mean)).masked_fill(seen.logical_not() | (count == 1), 0);
}

/// x [batch, pos, kv, d] -> [batch, kv * copies, pos, d]
Tensor per_head(const Tensor& x, int64_t copies) {
  return x.transpose(1, 2).repeat_interleave(copies, 1);
}

/// [batch, kv * copies, pos, d] -> [batch, pos, kv, d]
Tensor per_key_head(const Tensor& x, int64_t copies) {
  return x.unflatten(1, {x.size(1) / copies, copies}).sum(2).transpose(1, 2);
}

struct Grads {
  Tensor q, k, v;
};

/// The part of queries first .. first + count - 1, which see no key behind them; k and v grow.
void add_rows(const Tensor& q, const Tensor& keys, const Tensor& values, const Tensor& grad_z,
              const AttentionRule& rule, int64_t first, int64_t count, Grads& grads) {
  const auto seen = [&](const Tensor& x) { return x.narrow(1, 0, first + count); };
  const Tensor k = seen(keys), v = seen(values);
  const int64_t copies = q.size(2) / k.size(2);
  const Tensor rows =
      at::arange(first, first + count, q.options().dtype(at::kLong)).expand({q.size(0), count});
  const Tensor scores = attention_score_rows(seen(q), k, rule, rows, /*heads=*/{});
  const auto dtype = scores.scalar_type();
  const Tensor out = grad_z.narrow(1, first, count).transpose(1, 2).to(dtype);
  const Tensor grad_pattern =
      at::matmul(out, per_head(v, copies).to(dtype).transpose(2, 3));  // [batch, head, row, key]
  Tensor grad_scores = secants(scores, grad_pattern) * rule.scale;
  if (rule.softcap > 0) {
    const Tensor capped = scores.masked_fill(scores.isneginf(), 0) / rule.softcap;
    grad_scores = grad_scores * (1 - capped.square());
  }
  const Tensor own = q.narrow(1, first, count).transpose(1, 2).to(dtype);
  grads.q.narrow(1, first, count)
      .copy_(at::matmul(grad_scores, per_head(k, copies).to(dtype)).transpose(1, 2));
  seen(grads.k).add_(per_key_head(at::matmul(grad_scores.transpose(2, 3), own), copies));
  seen(grads.v).add_(per_key_head(at::matmul(scores.softmax(-1).transpose(2, 3), out), copies));
}

struct SecantFunction : torch::autograd::Function<SecantFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& z, const Tensor& q, const Tensor& k,
                        const Tensor& v, double scale, int64_t window, double softcap) {
    ctx->save_for_backward({q, k, v});
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["window"] = window;
    ctx->saved_data["softcap"] = softcap;
    return z.detach().clone();
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    constexpr int64_t kScores = 1 << 25;  // held at once
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const AttentionRule rule{ctx->saved_data["scale"].toDouble(),
                             ctx->saved_data["window"].toInt(),
                             ctx->saved_data["softcap"].toDouble(),
                             {}};
    const auto wide = at::promote_types(q.scalar_type(), at::kFloat);
    Grads found{at::zeros_like(q, wide), at::zeros_like(k, wide), at::zeros_like(v, wide)};
    const int64_t queries = q.size(1);
    const int64_t block =
        std::clamp<int64_t>(kScores / (q.size(0) * q.size(2) * k.size(1)), 1, queries);
    for (int64_t first = 0; first < queries; first += block) {
      add_rows(q, k, v, grads[0], rule, first, std::min(block, queries - first), found);
    }
    return {Tensor(),
            found.q.to(q.scalar_type()),
            found.k.to(k.scalar_type()),
            found.v.to(v.scalar_type()),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

}  // namespace

Tensor with_secant_backward(const Tensor& z, const Tensor& q, const Tensor& k, const Tensor& v,
                            const AttentionRule& rule) {
  return SecantFunction::apply(z.detach(), q, k, v, rule.scale, rule.window, rule.softcap);
}

}  // namespace headlens
