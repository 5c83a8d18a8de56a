// headlens/tests: root-mean-square and layer norms by hand.
#include "headlens/model/norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/model_tools.h"

namespace headlens {
namespace {

using testing::largest_difference;

const LayerTap kNoTap(nullptr, 0);

Tensor row(std::vector<double> values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

TEST(NormTest, ByHand) {
  const Norm norm(at::tensor({2.0, 10.0}, at::kDouble), /*eps=*/0.5);
  // mean(x^2) + eps = (9 + 16) / 2 + 0.5 = 13
  const Tensor y = norm.forward(row({3, 4}), kNoTap, Site::Ln1Scale, Site::Ln1Normalized);
  EXPECT_LT(largest_difference(y, row({6, 40}) / std::sqrt(13.0)), 1e-14);
}

TEST(NormTest, ShowsTheScaleAndTakesAnEdit) {
  class Halver : public Tap {
   public:
    bool wants(TapPoint point) const override { return point.site == Site::Ln2Scale; }
    Tensor visit(TapPoint, Tensor scale) override { return scale / 2; }
  } halver;
  const Norm norm(at::ones({2}, at::kDouble), 0);
  const Tensor x = row({3, 4});
  const Tensor plain = norm.forward(x, kNoTap, Site::Ln2Scale, Site::Ln2Normalized);
  const Tensor halved = norm.forward(x, LayerTap(&halver, 0), Site::Ln2Scale, Site::Ln2Normalized);
  EXPECT_LT(largest_difference(halved, plain * 2), 1e-14);
}

// Squares of 300 overflow float16; the statistics are taken in float32.
TEST(NormTest, HalfPrecisionDoesNotOverflow) {
  const Norm norm(at::ones({2}, at::kHalf), 0);
  const Tensor x = at::full({1, 2}, 300.0, at::kHalf);
  const Tensor y = norm.forward(x, kNoTap, Site::Ln1Scale, Site::Ln1Normalized);
  EXPECT_EQ(y.scalar_type(), at::kHalf);
  EXPECT_TRUE(at::equal(y, at::ones({1, 2}, at::kHalf)));
}

TEST(WeightlessRmsNormTest, ByHand) {
  EXPECT_LT(largest_difference(weightless_rms_norm(row({3, 4}), 0), row({3, 4}) / std::sqrt(12.5)),
            1e-14);
}

}  // namespace
}  // namespace headlens
