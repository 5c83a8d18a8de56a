// headlens/tests: rotated heads by hand, and on a GPU against float64.
#include "headlens/kernels/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

TEST(RotaryTest, AQuarterTurn) {
  const Tensor x = at::tensor({1.0, 2.0, 3.0, 4.0, 5.0}, at::kDouble).view({1, 1, 1, 5});
  const Tensor cos = at::tensor({0.0, 1.0}, at::kDouble).view({1, 1, 1, 2});
  const Tensor sin = at::tensor({1.0, 0.0}, at::kDouble).view({1, 1, 1, 2});
  const Tensor expected = at::tensor({-3.0, 2.0, 1.0, 4.0, 5.0}, at::kDouble).view({1, 1, 1, 5});
  EXPECT_TRUE(at::equal(rotate_heads(x, cos, sin), expected));
}

TEST(RotaryTest, ATableThatDoesNotFitIsRefused) {
  const Tensor x = at::zeros({1, 2, 1, 4}, at::kDouble),
               table = at::zeros({1, 2, 1, 3}, at::kDouble);
  EXPECT_THROW(rotate_heads(x, table, table), ShapeError);
}

// Heads cut out of a wider tensor, parts of a head left alone, odd halves, one table or one a row.
TEST(RotaryTest, FloatRowsEqualTheDefinition) {
  at::manual_seed(6);
  for (const auto& [d_head, half, tables] :
       {std::tuple{128, 64, 1}, {64, 16, 3}, {80, 40, 1}, {10, 3, 3}, {6, 3, 1}, {2, 1, 1}}) {
    const Tensor x = random_tensor({3, 31, 7, d_head}).to(at::kFloat).narrow(2, 1, 5);
    const Tensor angle = random_tensor({tables, 31, 1, half});
    const Tensor cos = angle.cos().to(at::kFloat), sin = angle.sin().to(at::kFloat);
    const Tensor expected =
        rotate_heads(x.to(at::kDouble), cos.to(at::kDouble), sin.to(at::kDouble));
    EXPECT_LT(error_of(rotate_heads(x, cos, sin).to(at::kDouble), expected), 3e-7) << d_head;
  }
}

struct RotaryCase {
  std::string name;
  at::ScalarType dtype;
  double tolerance;  // one rounding of the result, relative to the largest value
};

class RotaryCuda : public ::testing::TestWithParam<RotaryCase> {};

INSTANTIATE_TEST_SUITE_P(Types, RotaryCuda,
                         ::testing::Values(RotaryCase{"float32", at::kFloat, 1e-6},
                                           RotaryCase{"float16", at::kHalf, 6e-4},
                                           RotaryCase{"bfloat16", at::kBFloat16, 4e-3}),
                         [](const auto& row) { return row.param.name; });

// Heads cut out of a wider tensor, parts of a head left alone, odd halves, one table or one a row.
TEST_P(RotaryCuda, EqualsTheDefinition) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  at::manual_seed(6);
  for (const auto& [d_head, half, tables] :
       {std::tuple{128, 64, 1}, {64, 16, 3}, {80, 40, 1}, {10, 3, 3}, {6, 3, 1}}) {
    const Tensor whole = random_tensor({3, 129, 7, d_head}).to(at::kCUDA, GetParam().dtype);
    const Tensor x = whole.narrow(2, 1, 5);
    const Tensor angle = random_tensor({tables, 129, 1, half}).to(at::kFloat);
    const Tensor got = rotate_heads(x, angle.cos().to(at::kCUDA), angle.sin().to(at::kCUDA));
    const Tensor expected = rotate_heads(x.to(at::kCPU, at::kDouble), angle.cos().to(at::kDouble),
                                         angle.sin().to(at::kDouble));
    EXPECT_LT(error_of(got.to(at::kCPU, at::kDouble), expected), GetParam().tolerance) << d_head;
  }
}

}  // namespace
}  // namespace headlens
