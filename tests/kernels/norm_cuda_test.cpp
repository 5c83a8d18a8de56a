// headlens/tests: norms on a GPU against the same in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "headlens/kernels/norm.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

struct NormCase {
  std::string name;
  at::ScalarType x, weight;
  double tolerance;  // relative to the largest: half a unit of the weight's dtype, twice rounded
};

class NormCuda : public ::testing::TestWithParam<NormCase> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(5);
  }
  Tensor there(const Tensor& x, at::ScalarType dtype) const { return x.to(at::kCUDA, dtype); }
  static Tensor wide(const Tensor& x) { return x.to(at::kCPU, at::kDouble); }
};

INSTANTIATE_TEST_SUITE_P(Types, NormCuda,
                         ::testing::Values(NormCase{"float32", at::kFloat, at::kFloat, 1e-6},
                                           NormCase{"float16", at::kHalf, at::kHalf, 1.5e-3},
                                           NormCase{"bfloat16", at::kBFloat16, at::kBFloat16,
                                                    1.2e-2},
                                           NormCase{"wide", at::kFloat, at::kBFloat16, 1.2e-2}),
                         [](const auto& row) { return row.param.name; });

// Widths that no pack divides, one wider than 48 KB of shared memory, and rows with gaps between.
TEST_P(NormCuda, RmsNorm) {
  for (const int64_t width : {1, 31, 129, 4096, 16384}) {
    for (const bool plus_one : {false, true}) {
      const Tensor whole = there(random_tensor({2, 3, width + 8}), GetParam().x);
      const Tensor x = whole.narrow(-1, 0, width);
      const Tensor weight = there(random_tensor({width}), GetParam().weight);
      const Tensor expected = rms_norm(wide(x), wide(weight), 1e-5, plus_one);
      const Tensor got = rms_norm(x, weight, 1e-5, plus_one);
      EXPECT_EQ(got.scalar_type(), GetParam().weight);
      EXPECT_LT(error_of(wide(got), expected), GetParam().tolerance) << width << plus_one;
    }
  }
}

TEST_P(NormCuda, AddRmsNorm) {
  for (const int64_t width : {1, 129, 4096}) {
    const Tensor x = there(random_tensor({5, width}), GetParam().x);
    const Tensor y = there(random_tensor({5, width}), GetParam().weight);
    const Tensor weight = there(random_tensor({width}), GetParam().weight);
    const AddedNorm got = add_rms_norm(x, y, weight, 1e-5, false);
    const Tensor sum = x + y;
    EXPECT_TRUE(at::equal(got.sum, sum));
    EXPECT_LT(error_of(wide(got.normed), rms_norm(wide(sum), wide(weight), 1e-5, false)),
              GetParam().tolerance);
  }
}

TEST_P(NormCuda, GatedNorm) {
  for (const int64_t width : {6, 258, 8192}) {
    for (const GatedNorm kind : {GatedNorm::GateOnly, GatedNorm::GateFirst, GatedNorm::NormFirst}) {
      const Tensor y = there(random_tensor({2, 3, width}), GetParam().x);
      const Tensor gate = there(random_tensor({2, 3, width + 3}), GetParam().weight).slice(-1, 3);
      const Tensor weight = there(random_tensor({width}), GetParam().weight);
      const Tensor expected = gated_rms_norm(wide(y), wide(gate), wide(weight), 1e-5, 2, kind);
      const Tensor got = gated_rms_norm(y, gate, weight, 1e-5, 2, kind);
      EXPECT_LT(error_of(wide(got), expected), GetParam().tolerance) << width;
    }
  }
}

}  // namespace
}  // namespace headlens
