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
