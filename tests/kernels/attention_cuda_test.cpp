// headlens/tests: half-precision attention on a GPU against float64, each way it may take.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/core/device.h"
#include "headlens/kernels/attention.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

struct AttentionCase {
  std::string name;
  int64_t queries, keys, heads, kv_heads, d_head;
  int64_t window = 0;
  double softcap = 0;
  bool padded = false;
};

class AttentionCuda : public ::testing::TestWithParam<AttentionCase> {};

INSTANTIATE_TEST_SUITE_P(Ways, AttentionCuda,
                         ::testing::Values(AttentionCase{"one", 1, 1, 4, 2, 64},
                                           AttentionCase{"decode", 1, 129, 4, 2, 64},
                                           AttentionCase{"continued", 31, 129, 4, 2, 64},
                                           AttentionCase{"window", 129, 129, 4, 1, 96, 7},
                                           AttentionCase{"window_continued", 31, 129, 4, 4, 128,
                                                         40},
                                           AttentionCase{"odd_head", 65, 65, 4, 2, 20},
                                           AttentionCase{"softcap", 65, 65, 4, 2, 32, 0, 5},
                                           AttentionCase{"padded", 65, 65, 4, 2, 32, 0, 0, true},
                                           AttentionCase{"large", 2100, 2100, 32, 8, 128}),
                         [](const auto& row) { return row.param.name; });

TEST_P(AttentionCuda, EqualsFloat64) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const AttentionCase& c = GetParam();
  at::manual_seed(8);
  AttentionRule rule{.scale = 0.3, .window = c.window, .softcap = c.softcap};
  if (c.padded) rule.first = at::tensor({0, 9}, at::kLong);
  // The pattern and the result are rounded, to 2^-9 and 2^-12 of the largest.
  for (const auto& [dtype, tolerance] : {std::pair{at::kBFloat16, 8e-3}, {at::kHalf, 1e-3}}) {
    const auto draw = [&, kind = dtype](int64_t pos, int64_t heads) {
      return random_tensor({c.queries > 2000 ? 1 : 2, pos, heads, c.d_head}).to(kind);
    };
    const Tensor q = draw(c.queries, c.heads), k = draw(c.keys, c.kv_heads),
                 v = draw(c.keys, c.kv_heads);
    const Tensor got = attention(q.to(at::kCUDA), k.to(at::kCUDA), v.to(at::kCUDA), rule);
    const at::ScalarType wide = c.queries > 2000 ? at::kFloat : at::kDouble;
    const Tensor expected = attention(q.to(wide), k.to(wide), v.to(wide), rule);
    EXPECT_LT(error_of(got.to(at::kCPU, wide), expected), tolerance);
  }
}

}  // namespace
}  // namespace headlens
