// headlens/tests: norms and gates by hand.
#include "headlens/kernels/norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "headlens/core/error.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

Tensor row(std::vector<double> values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

TEST(RmsNormTest, ByHand) {
  const Tensor weight = at::tensor({2.0, 10.0}, at::kDouble);
  // mean(x^2) + eps = (9 + 16) / 2 + 0.5 = 13
  const Tensor normed = rms_norm(row({3, 4}), weight, 0.5, /*plus_one=*/false);
  EXPECT_LT(error_of(normed, row({6, 40}) / std::sqrt(13.0)), 1e-14);
  const Tensor plus_one = rms_norm(row({3, 4}), weight, 0.5, /*plus_one=*/true);
  EXPECT_LT(error_of(plus_one, row({9, 44}) / std::sqrt(13.0)), 1e-14);
}

TEST(RmsNormTest, AdditionFirst) {
  const Tensor weight = at::tensor({2.0, 10.0}, at::kDouble);
  const AddedNorm both = add_rms_norm(row({1, 5}), row({2, -1}), weight, 0.5, false);
  EXPECT_LT(error_of(both.sum, row({3, 4})), 1e-14);
  EXPECT_LT(error_of(both.normed, row({6, 40}) / std::sqrt(13.0)), 1e-14);
}

TEST(RmsNormTest, AWeightOfAnotherWidthIsRefused) {
  EXPECT_THROW(rms_norm(row({3, 4}), at::ones({3}, at::kDouble), 0, false), ShapeError);
  EXPECT_THROW(add_rms_norm(row({3, 4}), row({3}), at::ones({2}, at::kDouble), 0, false),
               ShapeError);
}

// The loops over float32 rows against the definition in float64: rows shorter than a vector, and
// with a remainder. Two roundings of a sum of squares in 16 parts, and of the result.
TEST(RmsNormTest, FloatRowsEqualTheDefinition) {
  at::manual_seed(4);
  for (const int64_t width : {1, 15, 16, 31, 64, 129}) {
    for (const bool plus_one : {false, true}) {
      const Tensor x = random_tensor({3, 7, width}), y = random_tensor({3, 7, width});
      const Tensor weight = random_tensor({width});
      const auto single = [](const Tensor& t) { return t.to(at::kFloat); };
      const AddedNorm expected = add_rms_norm(single(x).to(at::kDouble), single(y).to(at::kDouble),
                                              single(weight).to(at::kDouble), 0.1, plus_one);
      const AddedNorm got = add_rms_norm(single(x), single(y), single(weight), 0.1, plus_one);
      EXPECT_LT(error_of(got.sum.to(at::kDouble), expected.sum), 2e-7) << width;
      EXPECT_LT(error_of(got.normed.to(at::kDouble), expected.normed), 1e-6) << width;
      const Tensor alone = rms_norm(got.sum, single(weight), 0.1, plus_one);
      EXPECT_TRUE(at::equal(alone, got.normed)) << width;
      const Tensor strided = at::stack({got.sum, got.sum}, -1).select(-1, 1);  // the readable way
      EXPECT_LT(error_of(rms_norm(strided, single(weight), 0.1, plus_one), got.normed), 1e-6);
    }
  }
}

TEST(RmsNormTest, NoRows) {
  const Tensor none = at::zeros({0, 5}), weight = at::ones({5});
  EXPECT_EQ(add_rms_norm(none, none, weight, 0.1, false).normed.sizes(), none.sizes());
}

TEST(GatedRmsNormTest, GateBeforeNormAndGroupsApart) {
  const Tensor x = row({3, 4, 1, 7});
  const Tensor gate = row({0.5, -1, 2, 0.1});
  const Tensor weight = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble);
  const Tensor gated = x * gate / (1 + (-gate).exp());
  const Tensor scale = [&] {
    const Tensor square = gated * gated;
    const double first = std::sqrt((square[0][0] + square[0][1]).item<double>() / 2 + 0.1);
    const double second = std::sqrt((square[0][2] + square[0][3]).item<double>() / 2 + 0.1);
    return row({first, first, second, second});
  }();
  EXPECT_LT(error_of(gated_rms_norm(x, gate, weight, 0.1, 2), weight * gated / scale), 1e-14);
}

TEST(GatedRmsNormTest, NormFirstAndGateOnly) {
  const Tensor x = row({3, 4}), gate = row({0.5, -1}), weight = row({2, 10})[0];
  const Tensor opening = gate / (1 + (-gate).exp());
  const Tensor normed = row({6, 40}) / std::sqrt(13.0) * opening;
  EXPECT_LT(error_of(gated_rms_norm(x, gate, weight, 0.5, 1, GatedNorm::NormFirst), normed), 1e-14);
  EXPECT_LT(error_of(gated_rms_norm(x, gate, {}, 0.5, 1, GatedNorm::GateOnly), x * opening), 1e-14);
}

}  // namespace
}  // namespace headlens
