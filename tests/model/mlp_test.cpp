// headlens/tests: activations by their formulas.
#include "headlens/model/mlp.h"

#include "headlens/kernels/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "model/model_tools.h"

namespace headlens {
namespace {

double of(Activation activation, double x) {
  return activate(at::tensor({x}, at::kDouble), activation).item<double>();
}

TEST(ActivateTest, Formulas) {
  for (const double x : {-2.5, -0.3, 0.0, 0.7, 3.0}) {
    EXPECT_NEAR(of(Activation::Silu, x), x / (1 + std::exp(-x)), 1e-14);
    EXPECT_NEAR(of(Activation::Gelu, x), x * (1 + std::erf(x / std::sqrt(2.0))) / 2, 1e-14);
    const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    EXPECT_NEAR(of(Activation::GeluTanh, x), x * (1 + std::tanh(inner)) / 2, 1e-14);
    EXPECT_NEAR(of(Activation::Relu2, x), x > 0 ? x * x : 0, 1e-14);
  }
}

}  // namespace
}  // namespace headlens
