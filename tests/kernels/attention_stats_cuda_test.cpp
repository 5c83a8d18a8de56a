// headlens/tests: figures of attention rows on a GPU against the same in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "headlens/core/device.h"
#include "headlens/kernels/attention_stats.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

struct StatsCase {
  std::string name;
  int64_t queries = 300, keys = 300, heads = 4, kv_heads = 2, d_head = 128, batch = 1;
  int64_t window = 0;
  double softcap = 0, size = 1;  // of q: 6 gives sharp rows
  bool padded = false, chosen_rows = false, chosen_heads = false, apart = false;
  int64_t segments = 0;  // 1000 + n: n of them at random
  bool everything = false;
};

std::ostream& operator<<(std::ostream& out, const StatsCase& c) {
  return out << c.name;
}

const StatsCase kCases[] = {
    {.name = "base"},
    {.name = "one", .queries = 1, .keys = 1},
    {.name = "rows_31", .queries = 31, .keys = 31},
    {.name = "rows_129", .queries = 129, .keys = 129},
    {.name = "rows_4097", .queries = 4097, .keys = 4097, .heads = 2, .kv_heads = 1},
    {.name = "continued", .queries = 200, .keys = 777},
    {.name = "last_row", .queries = 1, .keys = 3000, .batch = 2},
    {.name = "sharp", .size = 6},
    {.name = "window", .window = 100},
    {.name = "softcap", .softcap = 20},
    {.name = "padded", .batch = 2, .padded = true},
    {.name = "padded_window", .batch = 2, .window = 70, .padded = true},
    {.name = "heads_one_group", .heads = 8, .kv_heads = 1},
    {.name = "ungrouped", .kv_heads = 4},
    {.name = "width_24", .d_head = 24},
    {.name = "width_32", .d_head = 32},
    {.name = "width_64", .d_head = 64},
    {.name = "width_80", .d_head = 80},
    {.name = "width_96", .d_head = 96},
    {.name = "width_256", .d_head = 256},
    {.name = "unaligned", .apart = true},
    {.name = "segments", .segments = 5},
    {.name = "segments_mixed", .batch = 2, .segments = 1256},
    {.name = "segments_window", .batch = 2, .window = 90, .padded = true, .segments = 7},
    {.name = "chosen_heads", .chosen_heads = true, .segments = 5},
    {.name = "chosen_rows", .batch = 2, .chosen_rows = true, .segments = 1030},
    {.name = "everything", .batch = 2, .everything = true},
    {.name = "everything_chosen",
     .keys = 900,
     .batch = 2,
     .window = 400,
     .softcap = 15,
     .padded = true,
     .chosen_rows = true,
     .chosen_heads = true,
     .segments = 1040,
     .everything = true},
};

using Param = std::tuple<StatsCase, at::ScalarType>;

class AttentionStatsCuda : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(11);
    const auto& [c, dtype] = GetParam();
    const int64_t room = c.apart ? 5 : 0;
    const auto made = [&, dtype = dtype](int64_t positions, int64_t heads, double size) {
      const Tensor x = random_tensor({c.batch, positions, heads, c.d_head + room}) * size;
      return x.to(at::kCUDA, dtype).slice(-1, room);
    };
    q_ = made(c.queries, c.heads, c.size);
    k_ = made(c.keys, c.kv_heads, 1);
    const auto index = at::TensorOptions().dtype(at::kLong).device(at::kCUDA);
    rule_.scale = 1 / std::sqrt(static_cast<double>(c.d_head));
    rule_.window = c.window;
    rule_.softcap = c.softcap;
    if (c.padded) rule_.first = at::arange(c.batch, index) * 120 + 15;
    if (c.chosen_heads) request_.heads = at::tensor({c.heads - 1, int64_t{0}}, index);
    int64_t rows = c.queries;
    if (c.chosen_rows) {
      rows = 7;
      request_.rows = at::randint(0, c.queries, {c.batch, rows}, index);
    }
    request_.num_segments = c.segments % 1000;
    if (c.segments >= 1000) {
      request_.segments = at::randint(-1, request_.num_segments, {c.batch, c.keys}, index);
    } else if (c.segments > 0) {
      request_.segments =
          ((at::arange(c.keys, index) * (c.segments + 1)).floor_divide(c.keys) - 1).unsqueeze(0);
    }
    if (c.everything) {
      request_.top_k = 16;
      request_.offsets = {0, 1, 7, 2000};
      request_.key_sets = at::randint(-1, c.keys, {c.batch, rows, 3, 6}, index);
    }
  }

  /// The same request by blocks in float64, on the values that the GPU has.
  MapStats reference() const {
    const auto there = [](const Tensor& x) { return x.defined() ? x.to(at::kCPU) : x; };
    AttentionRule rule = rule_;
    rule.first = there(rule_.first);
    MapStatsRequest request = request_;
    for (Tensor MapStatsRequest::*field :
         {&MapStatsRequest::rows, &MapStatsRequest::heads, &MapStatsRequest::segments,
          &MapStatsRequest::key_sets}) {
      request.*field = there(request_.*field);
    }
    return attention_stats(q_.to(at::kCPU, at::kDouble), k_.to(at::kCPU, at::kDouble), rule,
                           request);
  }

  Tensor q_, k_;
  AttentionRule rule_;
  MapStatsRequest request_;
};

INSTANTIATE_TEST_SUITE_P(Cases, AttentionStatsCuda,
                         ::testing::Combine(::testing::ValuesIn(kCases),
                                            ::testing::Values(at::kFloat, at::kHalf,
                                                              at::kBFloat16)),
                         [](const auto& row) {
                           return std::get<0>(row.param).name + "_" +
                                  c10::toString(std::get<1>(row.param));
                         });

/// Largest difference where both are finite; infinities must agree.
double difference(const Tensor& got, const Tensor& expected) {
  const Tensor x = got.to(at::kCPU, at::kDouble), finite = expected.isfinite();
  if (!at::equal(x.isfinite(), finite)) return INFINITY;
  return (x - expected).masked_fill(finite.logical_not(), 0).abs().max().item<double>();
}

// The products are exact in float32 but for their sums over d_head, whose error, some 1e-7 of
// |q||k| (scores up to 40 here), is that of a probability relative to its size.
TEST_P(AttentionStatsCuda, EqualsFloat64) {
  const MapStats got = attention_stats(q_, k_, rule_, request_), expected = reference();
  EXPECT_EQ(got.entropy.scalar_type(), at::kFloat);
  EXPECT_LT(difference(got.log_mass, expected.log_mass), 2e-5);
  EXPECT_LT(difference(got.entropy, expected.entropy), 4e-5);
  EXPECT_LT(difference(got.max, expected.max), 1e-5);
  EXPECT_LT(difference(got.row_mass, expected.row_mass), 1e-12);
  // Another key than the reference's may be named only where the two are equal to rounding.
  const Tensor differ = got.argmax.to(at::kCPU).ne(expected.argmax);
  EXPECT_LE(differ.sum().item<int64_t>(), 1 + differ.numel() / 5000);
  if (expected.segment_mass.defined()) {
    EXPECT_LT(difference(got.segment_mass, expected.segment_mass), 1e-5);
  }
  if (!std::get<0>(GetParam()).everything) return;
  EXPECT_LT(difference(got.offset_mass, expected.offset_mass), 1e-5);
  EXPECT_LT(difference(got.set_mass, expected.set_mass), 3e-5);
  EXPECT_LT(difference(got.top_values, expected.top_values), 1e-5);
  const Tensor keys = got.top_keys.to(at::kCPU);
  EXPECT_TRUE(at::equal(keys.lt(0), expected.top_keys.lt(0)));
  EXPECT_TRUE(at::equal(keys.select(-1, 0).clamp_min(0), got.argmax.to(at::kCPU)));
}

TEST_P(AttentionStatsCuda, SameEveryTime) {
  const MapStats a = attention_stats(q_, k_, rule_, request_);
  const MapStats b = attention_stats(q_, k_, rule_, request_);
  EXPECT_TRUE(at::equal(a.entropy, b.entropy));
  EXPECT_TRUE(at::equal(a.log_mass, b.log_mass));
  EXPECT_TRUE(at::equal(a.argmax, b.argmax));
  for (const auto field : {&MapStats::segment_mass, &MapStats::set_mass, &MapStats::top_values}) {
    EXPECT_TRUE(!(a.*field).defined() || at::equal(a.*field, b.*field));
  }
}

}  // namespace
}  // namespace headlens
