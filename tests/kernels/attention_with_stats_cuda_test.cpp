// headlens/tests: attention and figures from one pass on a GPU against the same in float64.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "headlens/core/device.h"
#include "headlens/kernels/attention_stats.h"
#include "headlens/kernels/attention_with_stats.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::random_tensor;

struct Case {
  std::string name;
  int64_t positions = 300, heads = 4, kv_heads = 2, d_head = 128, batch = 1;
  double size = 1;       // of q: 6 gives sharp rows
  bool rising = false;   // scores grow with the key, so that rows find a new peak in every tile
  bool falling = false;  // and with its distance
  bool joined = false;   // q, k and v are parts of one tensor
  int64_t segments = 0;  // 1000 + n: n of them at random, for each prompt
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

const Case kCases[] = {
    {.name = "base"},
    {.name = "positions_256", .positions = 256},
    {.name = "positions_257", .positions = 257, .batch = 2, .segments = 1016},
    {.name = "positions_383", .positions = 383, .segments = 3},
    {.name = "positions_4097", .positions = 4097, .heads = 2, .kv_heads = 1, .segments = 16},
    {.name = "sharp", .size = 6, .segments = 16},
    {.name = "rising", .positions = 1000, .rising = true, .segments = 1005},
    {.name = "falling", .positions = 1000, .falling = true, .segments = 1005},
    {.name = "one_group", .heads = 8, .kv_heads = 1, .batch = 2, .segments = 1},
    {.name = "ungrouped", .kv_heads = 4, .batch = 2},
    {.name = "width_32", .d_head = 32, .segments = 5},
    {.name = "width_64", .positions = 700, .d_head = 64, .segments = 1016},
    {.name = "width_80", .d_head = 80, .segments = 5},
    {.name = "joined", .batch = 2, .joined = true, .segments = 7},
};

Tensor on_cpu(const Tensor& x) {
  return x.defined() ? x.to(at::kCPU, x.is_floating_point() ? at::kDouble : at::kLong) : x;
}

class AttentionWithStatsCuda : public ::testing::TestWithParam<std::tuple<Case, at::ScalarType>> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(12);
    const auto& [c, dtype] = GetParam();
    const int64_t all = c.heads + 2 * c.kv_heads;
    Tensor qkv = random_tensor({c.batch, c.positions, all, c.d_head});
    qkv.narrow(2, 0, c.heads) *= c.size;
    if (c.rising || c.falling) {
      const Tensor key = at::arange(c.positions, qkv.options()).view({1, -1, 1}) * 0.05;
      qkv.narrow(2, 0, c.heads).select(-1, 0) = c.rising ? 8.0 : -8.0;
      qkv.narrow(2, c.heads, c.kv_heads).select(-1, 0).copy_(key.expand({c.batch, -1, c.kv_heads}));
    }
    qkv = qkv.to(at::kCUDA, dtype);
    const auto part = [&, joined = c.joined](int64_t from, int64_t count) {
      const Tensor x = qkv.narrow(2, from, count);
      return joined ? x : x.contiguous();
    };
    q_ = part(0, c.heads), k_ = part(c.heads, c.kv_heads);
    v_ = part(c.heads + c.kv_heads, c.kv_heads);
    rule_.scale = 1 / std::sqrt(static_cast<double>(c.d_head));
    request_.num_segments = c.segments % 1000;
    const auto index = at::TensorOptions().dtype(at::kLong).device(at::kCUDA);
    if (c.segments >= 1000) {
      request_.segments = at::randint(-1, request_.num_segments, {c.batch, c.positions}, index);
    } else if (c.segments > 0) {
      request_.segments =
          ((at::arange(c.positions, index) * (c.segments + 1)).floor_divide(c.positions) - 1)
              .unsqueeze(0);
    }
  }

  AttentionWithStats reference() const {
    MapStatsRequest request = request_;
    request.segments = on_cpu(request_.segments);
    return attention_with_stats(on_cpu(q_), on_cpu(k_), on_cpu(v_), rule_, request);
  }
  bool narrow() const { return std::get<1>(GetParam()) == at::kBFloat16; }

  Tensor q_, k_, v_;
  AttentionRule rule_;
  MapStatsRequest request_;
};

INSTANTIATE_TEST_SUITE_P(Cases, AttentionWithStatsCuda,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::Values(at::kHalf, at::kBFloat16)),
                         [](const auto& row) {
                           return std::get<0>(row.param).name + "_" +
                                  c10::toString(std::get<1>(row.param));
                         });

double difference(const Tensor& got, const Tensor& expected) {
  return (on_cpu(got) - expected).abs().max().item<double>();
}

// Scores reach 60 here and carry 1e-7 of |q||k|; z and segment masses carry P's rounding.
TEST_P(AttentionWithStatsCuda, EqualsFloat64) {
  const AttentionWithStats got = attention_with_stats(q_, k_, v_, rule_, request_),
                           expected = reference();
  const Tensor far = on_cpu(got.z) - expected.z;
  EXPECT_EQ(got.z.sizes(), q_.sizes());
  EXPECT_EQ(got.z.scalar_type(), q_.scalar_type());
  EXPECT_LT(far.norm().item<double>(), (narrow() ? 4e-3 : 5e-4) * expected.z.norm().item<double>());
  EXPECT_LT(far.abs().max().item<double>(), narrow() ? 3e-2 : 4e-3);
  EXPECT_LT(difference(got.stats.log_mass, expected.stats.log_mass), 4e-5);
  EXPECT_LT(difference(got.stats.entropy, expected.stats.entropy), 4e-5);
  EXPECT_LT(difference(got.stats.max, expected.stats.max), 2e-5);
  EXPECT_LT(difference(got.stats.row_mass, expected.stats.row_mass), 1e-12);
  // Another key than the reference's may be named only where the two are equal to rounding.
  const Tensor differ = on_cpu(got.stats.argmax).ne(expected.stats.argmax);
  EXPECT_LE(differ.sum().item<int64_t>(), 1 + differ.numel() / 5000);
  ASSERT_EQ(got.stats.segment_mass.defined(), request_.segments.defined());
  if (!request_.segments.defined()) return;
  EXPECT_EQ(got.stats.segment_mass.sizes(), expected.stats.segment_mass.sizes());
  EXPECT_LT(difference(got.stats.segment_mass, expected.stats.segment_mass),
            narrow() ? 4e-3 : 5e-4);
}

TEST_P(AttentionWithStatsCuda, SameEveryTime) {
  const AttentionWithStats a = attention_with_stats(q_, k_, v_, rule_, request_);
  const AttentionWithStats b = attention_with_stats(q_, k_, v_, rule_, request_);
  EXPECT_TRUE(at::equal(a.z, b.z));
  EXPECT_TRUE(at::equal(a.stats.entropy, b.stats.entropy));
  EXPECT_TRUE(at::equal(a.stats.argmax, b.stats.argmax));
  EXPECT_TRUE(!a.stats.segment_mass.defined() ||
              at::equal(a.stats.segment_mass, b.stats.segment_mass));
}

/// What one pass does not give takes two, and is theirs bit for bit.
TEST(AttentionWithStatsTwoPasses, AreTakenElsewhere) {
  const bool gpu = cuda_available();
  const auto made = [&](int64_t positions, int64_t heads, at::ScalarType dtype) {
    return random_tensor({1, positions, heads, 64}).to(gpu ? at::kCUDA : at::kCPU, dtype);
  };
  const auto expect_two = [&](const char* what, int64_t queries, at::ScalarType dtype,
                              const AttentionRule& rule, const MapStatsRequest& request) {
    const Tensor q = made(queries, 2, dtype), k = made(300, 1, dtype), v = made(300, 1, dtype);
    EXPECT_FALSE(attention_is_one_pass(q, k, v, rule, request)) << what;
    const AttentionWithStats got = attention_with_stats(q, k, v, rule, request);
    EXPECT_TRUE(at::equal(got.z, attention(q, k, v, rule))) << what;
    EXPECT_TRUE(at::equal(got.stats.entropy, attention_stats(q, k, rule, request).entropy)) << what;
  };
  const Tensor rows = at::arange(5, at::kLong).unsqueeze(0).to(gpu ? at::kCUDA : at::kCPU);
  expect_two("window", 300, at::kBFloat16, {.scale = 0.1, .window = 9}, {});
  expect_two("softcap", 300, at::kBFloat16, {.scale = 0.1, .softcap = 5}, {});
  expect_two("continued", 200, at::kBFloat16, {.scale = 0.1}, {});
  expect_two("float32", 300, at::kFloat, {.scale = 0.1}, {});
  expect_two("top keys", 300, at::kBFloat16, {.scale = 0.1}, {.top_k = 2});
  expect_two("offsets", 300, at::kBFloat16, {.scale = 0.1}, {.offsets = {1}});
  expect_two("chosen rows", 300, at::kBFloat16, {.scale = 0.1}, {.rows = rows});
}

TEST(AttentionWithStatsTwoPasses, WhereGradientsAreRecordedCuda) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  const auto made = [](int64_t heads) {
    return random_tensor({1, 300, heads, 64}).to(at::kCUDA, at::kBFloat16);
  };
  const Tensor q = made(2).requires_grad_(), k = made(1), v = made(1);
  const AttentionRule rule{.scale = 0.1};
  EXPECT_FALSE(attention_is_one_pass(q, k, v, rule, {}));
  EXPECT_TRUE(attention_with_stats(q, k, v, rule, {}).z.requires_grad());
  const c10::NoGradGuard none;
  EXPECT_TRUE(attention_is_one_pass(q, k, v, rule, {}));
}

}  // namespace
}  // namespace headlens
