// headlens/tests: the secant backward against patterns recomputed without one key.
#include "analysis/secant_attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace headlens {
namespace {

struct Case {
  int64_t kv_heads;
  AttentionRule rule;
};

const Case kCases[] = {
    {4, {0.7, 0, 0, {}}}, {2, {3.0, 0, 0, {}}}, {2, {0.7, 3, 0, {}}}, {1, {0.7, 0, 1.5, {}}}};

/// sum_i,c z_ic g_ic of one head with the scores s of its row replaced
double value_of(const std::vector<double>& scores, const std::vector<double>& of_key) {
  double top = -INFINITY, sum = 0, value = 0;
  for (const double s : scores) top = std::max(top, s);
  for (size_t j = 0; j < scores.size(); ++j) {
    sum += std::exp(scores[j] - top);
    value += std::exp(scores[j] - top) * of_key[j];
  }
  return value / sum;
}

// dL/dq and dL/dk are those of sum_ij secant_ij s_ij, each secant by taking one key's score to the
// mean of the row's others and computing the row's softmax anew.
TEST(SecantAttention, IsTheEffectOfOneKeyWithoutContent) {
  for (const Case& c : kCases) {
    at::manual_seed(3);
    const auto make = [](int64_t heads) { return at::randn({2, 6, heads, 4}, at::kDouble); };
    Tensor q = make(4), k = make(c.kv_heads), v = make(c.kv_heads);
    const Tensor grad_z = make(4);
    for (Tensor* x : {&q, &k, &v}) x->set_requires_grad(true);
    const Tensor plain = attention(q, k, v, c.rule);
    const Tensor z = with_secant_backward(plain, q, k, v, c.rule);
    EXPECT_TRUE(at::equal(z, plain));
    const auto found = torch::autograd::grad({z}, {q, k, v}, {grad_z});

    const Tensor rows = at::arange(6, at::kLong).expand({2, 6});
    const Tensor scores = attention_score_rows(q, k, c.rule, rows, {});
    Tensor secant = at::zeros_like(scores).detach();
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t h = 0; h < 4; ++h) {
        const int64_t kv = h / (4 / c.kv_heads);
        for (int64_t i = 0; i < 6; ++i) {
          std::vector<double> s, of_key;
          std::vector<int64_t> key;
          double sum = 0;
          for (int64_t j = 0; j < 6; ++j) {
            const double score = scores[b][h][i][j].item<double>();
            if (std::isinf(score)) continue;
            key.push_back(j);
            s.push_back(score);
            of_key.push_back((grad_z[b][i][h] * v[b][j][kv]).sum().item<double>());
            sum += score;
          }
          if (key.size() == 1) continue;
          for (size_t j = 0; j < key.size(); ++j) {
            std::vector<double> without = s;
            const double others = (sum - s[j]) / static_cast<double>(key.size() - 1);
            without[j] = others;
            secant[b][h][i][key[j]] =
                (value_of(s, of_key) - value_of(without, of_key)) / (s[j] - others);
          }
        }
      }
    }
    const Tensor pattern_part = scores.masked_fill(scores.isneginf(), 0) * secant;
    const auto expected = torch::autograd::grad({pattern_part.sum()}, {q, k}, {}, true);
    const auto slopes = torch::autograd::grad({plain}, {q, k, v}, {grad_z});
    EXPECT_TRUE(at::allclose(found[0], expected[0], 1e-9, 1e-9));
    EXPECT_TRUE(at::allclose(found[1], expected[1], 1e-9, 1e-9));
    EXPECT_TRUE(at::allclose(found[2], slopes[2], 1e-9, 1e-9));
    EXPECT_FALSE(at::allclose(found[0], slopes[0], 1e-3, 1e-3));
  }
}

// Rows with all of their mass on one key, in float32: the others' mean is not 0 / 0.
TEST(SecantAttention, IsFiniteWhereTheSoftmaxIsSaturated) {
  Tensor q = 100 * at::eye(5).view({1, 5, 1, 5}), k = q.clone();
  Tensor v = at::arange(25, at::kFloat).view({1, 5, 1, 5}).clone();
  for (Tensor* x : {&q, &k, &v}) x->set_requires_grad(true);
  const AttentionRule rule{1, 0, 0, {}};
  const Tensor z = with_secant_backward(attention(q, k, v, rule), q, k, v, rule);
  const auto found = torch::autograd::grad({z}, {q, k, v}, {at::ones_like(z)});
  for (const Tensor& gradient : found) EXPECT_TRUE(gradient.isfinite().all().item<bool>());
  EXPECT_GT(found[1].abs().max().item<double>(), 1e-4);  // slopes are exp(-10000)
}

}  // namespace
}  // namespace headlens
