// headlens/tests: streamed figures of map rows against figures of the dense map.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/model/head_map.h"
#include "kernels/autograd_tools.h"
#include "model/head_map_cases.h"

namespace headlens {
namespace {

using testing::AnyMap;
using testing::error_of;
using testing::make_map;

Tensor ints(std::initializer_list<int64_t> values) {
  return at::tensor(std::vector<int64_t>(values), at::kLong);
}

// Uniform attention: all scores 0, so row i spreads over i + 1 keys.
std::unique_ptr<HeadMap> uniform_map(int64_t pos) {
  const Tensor zero = at::zeros({1, pos, 1, 2}, at::kDouble);
  return make_softmax_map(zero, zero, zero, {1.0});
}

class ReduceOf : public ::testing::TestWithParam<AnyMap> {};
INSTANTIATE_TEST_SUITE_P(Kinds, ReduceOf, ::testing::ValuesIn(testing::kAnyMaps),
                         testing::any_map_name);

TEST_P(ReduceOf, StreamingEqualsTheDenseMap) {
  const auto made = make_map(GetParam(), at::kDouble);
  const HeadMap& map = *made.map;
  const Tensor dense = map.dense(), size = dense.abs();
  const Tensor p = map.is_softmax() ? dense : size / size.sum(-1, true);
  const Tensor segments = at::arange(map.keys(), at::kLong).floor_divide(10) - 1;  // -1, 0, 1, 2
  const MapStats stats =
      map.reduce({.segments = segments, .num_segments = 3, .top_k = 4, .row_block = 4});
  EXPECT_LT(error_of(stats.row_mass, size.sum(-1)), 1e-13);
  EXPECT_LT(error_of(stats.entropy, at::special_entr(p).sum(-1)), 1e-13);
  EXPECT_LT(error_of(stats.max, std::get<0>(p.max(-1))), 1e-13);
  EXPECT_TRUE(at::equal(stats.argmax, p.argmax(-1)));
  for (int64_t s = 0; s < 3; ++s) {
    const Tensor mass = (p * (segments == s)).sum(-1);
    EXPECT_LT(error_of(stats.segment_mass.select(3, s), mass), 1e-13) << "segment " << s;
  }
  const Tensor sorted = std::get<0>(p.sort(-1, /*descending=*/true)).narrow(3, 0, 4);
  EXPECT_LT(error_of(stats.top_values, sorted), 1e-13);
  const Tensor last = stats.top_keys.select(2, -1);  // a row with more than four keys
  EXPECT_LT(error_of(p.select(2, -1).gather(-1, last), sorted.select(2, -1)), 1e-13);
}

TEST_P(ReduceOf, RowsHeadsAndBlocksAreCutsOfTheWhole) {
  const auto made = make_map(GetParam(), at::kDouble);
  const HeadMap& map = *made.map;
  const MapStats whole = map.reduce({});
  EXPECT_FALSE(whole.top_values.defined());
  EXPECT_FALSE(whole.segment_mass.defined());
  const Tensor rows = at::stack({ints({4, 0, 3}), ints({1, 1, 2})});
  const MapStats some = map.reduce({.rows = rows, .heads = {1, 0}, .row_block = 2});
  for (int64_t b = 0; b < 2; ++b) {
    const auto cut = [&](const Tensor& t) {
      return t[b].index_select(0, ints({1, 0})).index_select(1, rows[b]);
    };
    EXPECT_LT(error_of(some.entropy[b], cut(whole.entropy)), 1e-14);
    EXPECT_LT(error_of(some.row_mass[b], cut(whole.row_mass)), 1e-14);
    EXPECT_LT(error_of(some.max[b], cut(whole.max)), 1e-14);
    EXPECT_TRUE(at::equal(some.argmax[b], cut(whole.argmax)));
  }
}

TEST_P(ReduceOf, SeesTheEdits) {
  const auto made = make_map(GetParam(), at::kDouble);
  HeadMap& map = *made.map;
  map.edit({.heads = {0}, .factor = 0});
  const MapStats stats = map.reduce({});
  EXPECT_EQ(stats.row_mass.select(1, 0).max().item<double>(), 0);
  EXPECT_EQ(stats.entropy.select(1, 0).abs().max().item<double>(), 0);  // a zero row, not NaN
  EXPECT_GT(stats.row_mass.select(1, 1).min().item<double>(), 0);
}

TEST(Reduce, EntropyOfAUniformRowIsTheLogarithmOfItsKeys) {
  const auto map = uniform_map(40);
  const Tensor keys = at::arange(1, 41, at::kDouble);
  EXPECT_LT(error_of(map->reduce({.row_block = 7}).entropy.view({40}), keys.log()), 1e-14);
}

TEST(Reduce, SegmentMassesSumToOneWhereEveryKeyHasASegment) {
  const auto made = make_map(AnyMap::kS6, at::kFloat);
  const int64_t keys = made.map->keys();
  const Tensor by_batch = at::randint(0, 5, {2, keys}, at::kLong);
  const MapStats stats = made.map->reduce({.segments = by_batch, .num_segments = 5});
  const Tensor total = stats.segment_mass.sum(-1);
  EXPECT_LT(error_of(total, at::ones_like(total)), 1e-6);  // 31 float32 additions
}

TEST(Reduce, PadsTheTopOfShortRows) {
  const auto map = uniform_map(3);
  const MapStats stats = map->reduce({.top_k = 5});
  const Tensor values = stats.top_values.view({3, 5});
  const Tensor expected = at::tensor(
      {1.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 1 / 3.0, 1 / 3.0, 1 / 3.0, 0.0, 0.0},
      at::kDouble);
  EXPECT_LT(error_of(values, expected.view({3, 5})), 1e-15);
  const Tensor keys = stats.top_keys.view({3, 5});
  EXPECT_TRUE(at::equal(keys.ge(0), values.gt(0)));
  EXPECT_EQ(keys.min().item<int64_t>(), -1);
}

TEST(Reduce, ArgmaxIsTheFirstMaximum) {
  const MapStats stats = uniform_map(9)->reduce({});
  EXPECT_EQ(stats.argmax.abs().max().item<int64_t>(), 0);
}

TEST(Reduce, GradientsAreFiniteWhereEntriesAreZero) {
  for (const AnyMap kind : {AnyMap::kSoftmax, AnyMap::kSsd, AnyMap::kS6}) {
    const testing::Tensors in = testing::leaves(testing::map_inputs(kind, at::kDouble));
    const auto map = testing::map_from(kind, in);
    map->reduce({}).entropy.sum().backward();
    for (const Tensor& t : in) {
      if (t.defined() && t.grad().defined()) {
        EXPECT_TRUE(t.grad().isfinite().all().item<bool>());
      }
    }
  }
}

TEST(Reduce, EntropyGradientEqualsFiniteDifferences) {
  const testing::Tensors in = testing::map_inputs(AnyMap::kSsd, at::kDouble);
  const auto value = [&](const testing::Tensors& inputs) {
    return testing::map_from(AnyMap::kSsd, inputs)->reduce({.row_block = 8}).entropy.sum();
  };
  const testing::Tensors recorded = testing::leaves(in);
  value(recorded).backward();
  constexpr double kStep = 1e-6;
  for (const size_t i : {0, 2, 3}) {  // log_decay, B, C; dt and x do not both matter alike
    double ends[2];
    for (int side = 0; side < 2; ++side) {
      testing::Tensors moved = in;
      moved[i] = in[i].clone();
      moved[i].view({-1})[17] += side == 0 ? -kStep : kStep;
      ends[side] = value(moved).item<double>();
    }
    // Entropies of 248 rows add up to order 1000: differences carry about 1e-13 * 1000 / 1e-6.
    EXPECT_NEAR(recorded[i].grad().view({-1})[17].item<double>(), (ends[1] - ends[0]) / (2 * kStep),
                1e-6)
        << "input " << i;
  }
}

TEST(Reduce, ZeroRowsStayZero) {
  const Tensor rows = at::tensor({0.0, 0.0, 0.0, 1.0, -3.0, 0.0}, at::kDouble).view({2, 3});
  const Tensor expected = at::tensor({0.0, 0.0, 0.0, 0.25, 0.75, 0.0}, at::kDouble).view({2, 3});
  EXPECT_EQ(error_of(normalized_rows(rows, /*is_softmax=*/false), expected), 0);
  EXPECT_EQ(error_of(normalized_rows(rows, /*is_softmax=*/true), rows), 0);
}

TEST(ReduceErrors, NameTheOption) {
  const auto map = uniform_map(5);
  using testing::error_message;
  EXPECT_EQ(error_message<ShapeError>([&] {
              map->reduce({.segments = ints({0, 1, 2, 0, 0}), .num_segments = 2});
            }),
            "[HeadMap::reduce] segment id, expected -1 to 1, got 2");
  EXPECT_EQ(error_message<ShapeError>([&] {
              map->reduce({.segments = ints({0, 1}), .num_segments = 2});
            }),
            "[HeadMap::reduce] segments, expected [5] or [1, 5], got [2]");
  EXPECT_EQ(error_message<ShapeError>([&] { map->reduce({.row_block = 0}); }),
            "[HeadMap::reduce] row_block, expected at least 1, got 0");
}

}  // namespace
}  // namespace headlens
