// headlens/tests: sums over stretches of positions against plain sums.
#include "kernels/segment_sums.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/plain_scans.h"

namespace headlens {
namespace {

using testing::error_of;

Tensor plain_sums(const Tensor& values) {
  const int64_t pos = values.size(0);
  Tensor sums = at::zeros({pos, pos}, at::kDouble);
  for (int64_t i = 0; i < pos; ++i) {
    for (int64_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (int64_t k = j + 1; k <= i; ++k) sum += values[k].item<double>();
      sums[i][j] = sum;
    }
  }
  return sums;
}

class SegmentSums : public ::testing::TestWithParam<at::ScalarType> {};

INSTANTIATE_TEST_SUITE_P(Types, SegmentSums, ::testing::Values(at::kFloat, at::kDouble));

TEST_P(SegmentSums, KeepTheirDigitsBehindLargeValues) {
  // The first values are a million times the others: a difference of running sums in the inputs'
  // own float32 would leave the small sums about two digits.
  at::manual_seed(2);
  Tensor values = testing::random_between(-1, 0, {33}).to(GetParam());
  values.narrow(0, 0, 4).mul_(1e6);
  const Tensor expected = plain_sums(values.to(at::kDouble));
  const Tensor near = expected.narrow(1, 4, 29);  // sums without the large values
  const double tolerance = GetParam() == at::kFloat ? 1e-6 : 1e-13;
  const Tensor all = segment_sums(values);
  EXPECT_EQ(all.scalar_type(), GetParam());
  EXPECT_LT(error_of(all.narrow(1, 4, 29), near), tolerance);
  EXPECT_LT(error_of(all, expected), tolerance);
  const Tensor rows = at::tensor({32, 0, 5}, at::kLong).unsqueeze(0);
  const Tensor chosen = row_segment_sums(values.view({1, 1, 33}), rows)[0][0];
  EXPECT_LT(error_of(chosen.narrow(1, 4, 29), near.index_select(0, rows[0])), tolerance);
}

TEST(CausalRows, ShiftByTheFirstQuery) {
  const Tensor rows = at::tensor({0, 1}, at::kLong).unsqueeze(0);
  const Tensor expected = at::tensor({1, 1, 1, 0, 1, 1, 1, 1}, at::kLong).view({1, 1, 2, 4});
  EXPECT_TRUE(at::equal(causal_rows(rows, 4, 2).to(at::kLong), expected));
}

}  // namespace
}  // namespace headlens
