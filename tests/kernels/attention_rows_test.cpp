// headlens/tests: attention of chosen queries against attention of all.
#include "headlens/kernels/attention_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::random_tensor;

/// Queries 6 .. 19 of 20 keys, three of them chosen in each row.
void expect_rows_of_all(const AttentionRule& rule, int64_t kv_heads) {
  at::manual_seed(4);
  const Tensor q = random_tensor({2, 14, 4, 8}), k = random_tensor({2, 20, kv_heads, 8}),
               v = random_tensor({2, 20, kv_heads, 8});
  const Tensor rows = at::tensor({13, 0, 7, 2, 13, 5}, at::kLong).view({2, 3});
  const Tensor index = rows.view({2, 3, 1, 1}).expand({2, 3, 4, 8});
  const Tensor expected = attention(q, k, v, rule).gather(1, index);
  const Tensor got = attention_rows(q.gather(1, index), k, v, rule, rows + 6);
  EXPECT_LT((got - expected).abs().max().item<double>(), 1e-13);  // float64
}

TEST(AttentionRows, AreRowsOfAttention) {
  for (const int64_t kv_heads : {1, 2, 4}) expect_rows_of_all({0.3}, kv_heads);
}

TEST(AttentionRows, KeepWindowsSoftCapsAndPadding) {
  expect_rows_of_all({0.3, /*window=*/5}, 2);
  expect_rows_of_all({0.3, 0, /*softcap=*/2}, 2);
  expect_rows_of_all({0.3, 4, 1.5, at::tensor({0, 9}, at::kLong)}, 2);  // row 1: query 2 is padding
}

TEST(AttentionRows, HalfPrecisionIsComputedInFloat32) {
  at::manual_seed(4);
  const auto half = [](const Tensor& x) { return x.to(at::kBFloat16); };
  const Tensor q = random_tensor({1, 1, 4, 8}), k = random_tensor({1, 9, 2, 8}),
               v = random_tensor({1, 9, 2, 8});
  const Tensor place = at::full({1, 1}, 8, at::kLong);
  const Tensor wide = [&](auto... x) {
    return attention_rows(half(x).to(at::kDouble)..., {0.3}, place);
  }(q, k, v);
  const Tensor got = attention_rows(half(q), half(k), half(v), {0.3}, place);
  EXPECT_EQ(got.scalar_type(), at::kBFloat16);
  // Rounded once, at the end: half a unit in the last place of 8 bits.
  EXPECT_TRUE(at::allclose(got.to(at::kDouble), wide, 1.0 / 256, 1e-6));
}

}  // namespace
}  // namespace headlens
