// headlens/tests: gated activations against the two steps, on CPU and GPU.
#include "headlens/kernels/activation.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "headlens/core/error.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

constexpr Activation kAll[] = {Activation::Silu, Activation::Gelu, Activation::GeluTanh,
                               Activation::Relu, Activation::Relu2};

TEST(GatedActivationTest, IsTheProductOfBoth) {
  const Tensor gate = at::tensor({-1.0, 0.0, 2.0}, at::kDouble), up = gate + 3;
  const Tensor expected = gate / (1 + (-gate).exp()) * up;
  EXPECT_LT(error_of(gated_activation(gate, up, Activation::Silu), expected), 1e-15);
  EXPECT_THROW(gated_activation(gate, up.narrow(0, 0, 2), Activation::Silu), ShapeError);
}

// Both halves of one tensor, as a joined projection leaves them; a width that no pack divides.
TEST(GatedActivationCuda, EqualsFloat64) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  at::manual_seed(7);
  // The activation is rounded, then the product: two halves of a unit.
  for (const auto& [dtype, tolerance] :
       {std::pair{at::kFloat, 1e-6}, {at::kHalf, 1e-3}, {at::kBFloat16, 8e-3}}) {
    for (const int64_t width : {1, 31, 4096}) {
      const Tensor both = (random_tensor({2, 5, 2 * width}) * 3).to(at::kCUDA, dtype);
      const auto halves = both.chunk(2, -1);
      const auto wide = both.to(at::kCPU, at::kDouble).chunk(2, -1);
      for (const Activation activation : kAll) {
        const Tensor got = gated_activation(halves[0], halves[1], activation);
        EXPECT_LT(
            error_of(got.to(at::kCPU, at::kDouble), gated_activation(wide[0], wide[1], activation)),
            tolerance)
            << width << " " << static_cast<int>(activation);
      }
    }
  }
}

}  // namespace
}  // namespace headlens
