// headlens/tests: head maps of all kinds: rows, products, edits.
#include "headlens/model/head_map.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/kernels/attention.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_scan.h"
#include "kernels/autograd_tools.h"
#include "model/head_map_cases.h"

namespace headlens {
namespace {

using testing::any_map_name;
using testing::AnyMap;
using testing::error_of;
using testing::kAnyMaps;
using testing::make_map;
using testing::random_tensor;
using MapPtr = std::unique_ptr<HeadMap>;

Tensor ints(std::initializer_list<int64_t> values) {
  return at::tensor(std::vector<int64_t>(values), at::kLong);
}

// True at `chosen`, [n].
Tensor mask_of(int64_t n, std::initializer_list<int64_t> chosen) {
  Tensor mask = at::zeros({n}, at::kBool);
  for (const int64_t i : chosen) mask[i] = true;
  return mask;
}

TEST(HeadMapByHand, Softmax) {
  // One head, q = 1, k = ln 1, ln 2, ln 3: the weights of row i are 1 : 2 : 3, cut at i.
  const Tensor q = at::ones({1, 3, 1, 1}, at::kDouble);
  const Tensor k = at::tensor({1.0, 2.0, 3.0}, at::kDouble).log().view({1, 3, 1, 1});
  const MapPtr map = make_softmax_map(q, k, k, {1.0});
  const Tensor expected =
      at::tensor({1.0, 0.0, 0.0, 1 / 3.0, 2 / 3.0, 0.0, 1 / 6.0, 2 / 6.0, 3 / 6.0}, at::kDouble);
  EXPECT_LT(error_of(map->dense(), expected.view({1, 1, 3, 3})), 1e-15);
}

TEST(HeadMapByHand, Ssd) {
  // B = C = 1, each step halves, dt = 2: M_ij = 2 / 2^(i - j).
  const Tensor one = at::ones({1, 3, 1, 1}, at::kDouble), step = at::ones({1, 3, 1}, at::kDouble);
  const MapPtr map =
      make_ssd_map(LayerKind::Mamba2, step * -std::log(2.0), step * 2, one, one, one, {});
  const Tensor expected =
      at::tensor({2.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.5, 1.0, 2.0}, at::kDouble).view({1, 1, 3, 3});
  EXPECT_LT(error_of(map->dense(), expected), 1e-15);
  const MapPtr discrete =
      make_ssd_map(LayerKind::DiscreteMamba2, step * -std::log(2.0), {}, one, one, one, {});
  EXPECT_LT(error_of(discrete->dense(), expected / 2), 1e-15);
}

TEST(HeadMapByHand, S6) {
  // Two states with A = -1 and -2, dt = ln 2, so that they halve and quarter; B = C = 1:
  // M_ij = ln 2 (1 / 2^(i - j) + 1 / 4^(i - j)).
  const Tensor dt = at::full({1, 3, 1}, std::log(2.0), at::kDouble);
  const Tensor one = at::ones({1, 3, 2}, at::kDouble);
  const MapPtr map =
      make_s6_map(dt, at::tensor({-1.0, -2.0}, at::kDouble).view({1, 2}), one, one, dt, {});
  const Tensor expected =
      at::tensor({2.0, 0.0, 0.0, 0.75, 2.0, 0.0, 0.3125, 0.75, 2.0}, at::kDouble) * std::log(2.0);
  EXPECT_LT(error_of(map->dense(), expected.view({1, 1, 3, 3})), 1e-15);
}

class HeadMapOf : public ::testing::TestWithParam<AnyMap> {};
INSTANTIATE_TEST_SUITE_P(Kinds, HeadMapOf, ::testing::ValuesIn(kAnyMaps), any_map_name);

TEST_P(HeadMapOf, ProductEqualsTheLayersOwnOutput) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto made = make_map(GetParam(), dtype);
    // 1e-5: sums of 31 terms of order 1, in float32.
    const double tolerance = dtype == at::kDouble ? 1e-12 : 1e-5;
    EXPECT_LT(error_of(made.map->apply(), made.plain_y), tolerance);
    EXPECT_LT(error_of(made.map->apply_rows(/*row_block=*/7), made.plain_y), tolerance);
    EXPECT_LT(error_of(made.map->apply_dense(made.map->dense()), made.plain_y), tolerance);
    EXPECT_EQ(made.map->apply().scalar_type(), dtype);
    EXPECT_EQ(made.map->entries_edited(), 0);
  }
}

TEST_P(HeadMapOf, RowsBlocksAndHeadsAreCutsOfTheDenseMap) {
  const auto made = make_map(GetParam(), at::kDouble);
  const HeadMap& map = *made.map;
  const Tensor dense = map.dense();
  ASSERT_EQ(dense.sizes(), at::IntArrayRef({map.batch(), map.heads(), map.queries(), map.keys()}));
  EXPECT_EQ(error_of(dense, dense.tril(map.first_query())), 0) << "an entry above the diagonal";
  EXPECT_LT(error_of(map.block(2, 3), dense.narrow(2, 2, 3)), 1e-15);
  const std::vector<int64_t> heads = {map.heads() - 1, 0};
  const Tensor chosen = dense.index_select(1, at::tensor(heads, at::kLong));
  EXPECT_LT(error_of(map.dense(heads), chosen), 1e-15);
  const Tensor rows = ints({4, 0, 4});
  EXPECT_LT(error_of(map.rows(rows, heads), chosen.index_select(2, rows)), 1e-15);
  const Tensor by_batch = at::stack({ints({1, 0}), ints({4, 3})});
  const Tensor got = map.rows(by_batch, heads);
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_LT(error_of(got[b], chosen[b].index_select(1, by_batch[b])), 1e-15);
  }
}

TEST_P(HeadMapOf, IsAtLeastFloat) {
  const auto made = make_map(GetParam(), at::kBFloat16);
  EXPECT_EQ(made.map->dense().scalar_type(), at::kFloat);
  EXPECT_EQ(made.map->apply().scalar_type(), at::kBFloat16);
  // The map is exact in float32 for the rounded inputs; y is rounded to bf16 once.
  EXPECT_LT(error_of(made.map->apply(), made.plain_y), 4e-3);
}

TEST_P(HeadMapOf, KnockoutEqualsZeroingTheDenseMap) {
  const auto made = make_map(GetParam(), at::kDouble);
  HeadMap& map = *made.map;
  Tensor expected = map.dense();
  const int64_t first = map.first_query();
  // Head 1, rows 2 and 4, keys 0, 3 and the last.
  for (const int64_t i : {2, 4}) {
    for (const int64_t j : {int64_t{0}, int64_t{3}, map.keys() - 1}) {
      expected.select(1, 1).select(1, i).select(1, j).zero_();
    }
  }
  map.edit({.heads = {1},
            .rows = mask_of(map.queries(), {2, 4}),
            .keys = mask_of(map.keys(), {0, 3, map.keys() - 1})});
  EXPECT_LT(error_of(map.dense(), expected), 1e-15);
  EXPECT_EQ(map.entries_edited(), 0);
  const Tensor y = map.apply_rows(/*row_block=*/3);
  EXPECT_LT(error_of(y, map.apply_dense(expected)), 1e-12);
  int64_t covered = 0;
  for (const int64_t i : {2, 4}) {
    for (const int64_t j : {int64_t{0}, int64_t{3}, map.keys() - 1}) {
      covered += j <= first + i ? map.batch() : 0;
    }
  }
  EXPECT_EQ(map.entries_edited(), covered);
  EXPECT_LT(error_of(map.dense({0}), expected.narrow(1, 0, 1)), 1e-15) << "a head without edits";
}

TEST_P(HeadMapOf, EditsComposeInOrder) {
  const auto made = make_map(GetParam(), at::kDouble);
  HeadMap& map = *made.map;
  const Tensor plain = map.dense();
  map.edit({.keys = mask_of(map.keys(), {1}), .factor = 3});
  map.edit({.rows = mask_of(map.queries(), {4}),
            .custom = [](Tensor rows, const MapBlock&) { return rows + 1; }});
  map.edit({.keys = mask_of(map.keys(), {1}), .factor = 2});
  Tensor expected = plain.clone();
  expected.select(3, 1).mul_(3);
  expected.select(2, 4).narrow(2, 0, map.first_query() + 5).add_(1);  // nothing above the diagonal
  expected.select(3, 1).mul_(2);
  EXPECT_LT(error_of(map.dense(), expected), 1e-14);
}

TEST_P(HeadMapOf, CustomEditsKnowWhereTheyAre) {
  const auto made = make_map(GetParam(), at::kDouble);
  HeadMap& map = *made.map;
  const Tensor plain = map.dense();
  // Scales row i of head h by (i + 1)(h + 1), from what the block says.
  map.edit({.custom = [&](Tensor rows, const MapBlock& block) {
    EXPECT_EQ(block.keys, map.keys());
    const Tensor heads = at::tensor(block.heads, at::kLong) + 1;
    return rows * (block.rows + 1).unsqueeze(1).unsqueeze(-1) * heads.view({1, -1, 1, 1});
  }});
  const Tensor by_row = (at::arange(map.queries(), at::kLong) + 1).view({1, 1, -1, 1});
  const Tensor by_head = (at::arange(map.heads(), at::kLong) + 1).view({1, -1, 1, 1});
  const Tensor expected = plain * by_row * by_head;
  EXPECT_LT(error_of(map.dense(), expected), 1e-14);
  EXPECT_LT(
      error_of(map.rows(ints({3, 1}), {1}), expected.narrow(1, 1, 1).index_select(2, ints({3, 1}))),
      1e-14);
}

TEST_P(HeadMapOf, CountsEachSequencesOwnMask) {
  const auto made = make_map(GetParam(), at::kDouble);
  HeadMap& map = *made.map;
  const Tensor keys = at::stack({mask_of(map.keys(), {0}), mask_of(map.keys(), {0, 1, 2})});
  map.edit({.heads = {0, 1}, .rows = mask_of(map.queries(), {4}), .keys = keys});
  map.apply();
  EXPECT_EQ(map.entries_edited(), 2 * (1 + 3));
  map.apply();
  EXPECT_EQ(map.entries_edited(), 2 * (1 + 3)) << "counted anew, not added up";
  map.edit({});
  map.apply_dense(map.dense());
  const int64_t lower = map.queries() * (map.queries() + 1) / 2 + map.queries() * map.first_query();
  EXPECT_EQ(map.entries_edited(), 2 * (1 + 3) + map.batch() * map.heads() * lower);
}

TEST_P(HeadMapOf, GradientsFlowThroughEditedProducts) {
  // The product block by block and the dense product must differentiate alike.
  const auto outputs = [&](bool dense) {
    return [&, dense](const testing::Tensors& in) -> testing::Tensors {
      const MapPtr map = testing::map_from(GetParam(), in);
      map->edit({.heads = {0}, .keys = mask_of(map->keys(), {1, 2}), .factor = 0.5});
      return {dense ? map->apply_dense(map->dense()) : map->apply_rows(4)};
    };
  };
  testing::expect_same_gradients(outputs(false), outputs(true),
                                 testing::map_inputs(GetParam(), at::kDouble), 1e-12);
}

TEST_P(HeadMapOf, GradientsEqualThoseOfThePlainLayer) {
  testing::expect_same_gradients(
      [&](const testing::Tensors& in) -> testing::Tensors {
        return {testing::map_from(GetParam(), in)->apply()};
      },
      [&](const testing::Tensors& in) -> testing::Tensors {
        return {testing::layer_output(GetParam(), in)};
      },
      testing::map_inputs(GetParam(), at::kDouble), 1e-11);
}

TEST(HeadMapRenormalize, EqualsAHandMaskedSoftmax) {
  const auto made = make_map(AnyMap::kSoftmaxContinued, at::kDouble);
  HeadMap& map = *made.map;
  const testing::Tensors in = testing::map_inputs(AnyMap::kSoftmaxContinued, at::kDouble);
  const Tensor rows = at::arange(map.queries(), at::kLong).expand({2, -1});
  const Tensor plain = map.dense();
  Tensor scores = attention_score_rows(in[0], in[1], {testing::kMapScale}, rows, {});
  Tensor hidden = at::zeros_like(scores).to(at::kBool);
  for (const int64_t head : {0, 2}) {
    for (const int64_t key : {1, 5}) hidden.select(1, head).select(1, 3).select(1, key).fill_(true);
  }
  const Tensor expected = scores.masked_fill(hidden, -INFINITY).softmax(-1);
  map.edit({.heads = {0, 2},
            .rows = mask_of(map.queries(), {3}),
            .keys = mask_of(map.keys(), {1, 5}),
            .renormalize = true});
  EXPECT_LT(error_of(map.dense(), expected), 1e-15);
  EXPECT_LT(error_of(map.dense().sum(-1), at::ones_like(expected.sum(-1))), 1e-14);
  EXPECT_LT(error_of(map.dense({1}), plain.narrow(1, 1, 1)), 1e-15);
}

TEST(HeadMapRenormalize, ARowHiddenWholeBecomesZeroAndHasNoNanGradient) {
  const testing::Tensors in = testing::leaves(testing::map_inputs(AnyMap::kSoftmax, at::kDouble));
  const MapPtr map = testing::map_from(AnyMap::kSoftmax, in);
  map->edit({.rows = mask_of(map->queries(), {4}), .renormalize = true});
  const Tensor dense = map->dense();
  EXPECT_EQ(dense.select(2, 4).abs().max().item<double>(), 0);
  EXPECT_LT(error_of(dense.select(2, 3).sum(-1), at::ones({2, 4}, at::kDouble)), 1e-14);
  map->apply().sum().backward();
  for (const Tensor& t : in) EXPECT_TRUE(t.grad().isfinite().all().item<bool>());
}

TEST(HeadMapErrors, NameWhatIsWrong) {
  const auto made = make_map(AnyMap::kSsd, at::kDouble);
  HeadMap& map = *made.map;
  using testing::error_message;
  EXPECT_EQ(error_message<ShapeError>([&] { map.rows(ints({31})); }),
            "[HeadMap] row, expected 0 to 30, got 31");
  EXPECT_EQ(error_message<ShapeError>([&] { map.rows(ints({-1})); }),
            "[HeadMap] row, expected 0 to 30, got -1");
  EXPECT_EQ(error_message<ShapeError>([&] { map.rows(at::zeros({2})); }),
            "[HeadMap] dtype of rows, expected int64, got float32");
  EXPECT_EQ(error_message<ShapeError>([&] {
              map.rows(at::zeros({3, 1}, at::kLong));
            }),
            "[HeadMap] rows, expected [row] or [2, row], got [3, 1]");
  EXPECT_EQ(error_message<ShapeError>([&] { map.dense({4}); }),
            "[HeadMap] head, expected 0 to 3, got 4");
  EXPECT_EQ(error_message<ShapeError>([&] { map.block(30, 2); }),
            "[HeadMap::block] rows, expected within 0 to 30, got 30 to 31");
  EXPECT_EQ(error_message<ShapeError>([&] { map.edit({.heads = {-1}}); }),
            "[HeadMap] head, expected 0 to 3, got -1");
  EXPECT_EQ(error_message<ShapeError>([&] { map.edit({.keys = mask_of(5, {0})}); }),
            "[HeadMap::edit] keys, expected [31] or [2, 31], got [5]");
  EXPECT_EQ(error_message<HookError>([&] { map.edit({.renormalize = true}); }),
            "[HeadMap::edit] renormalize, expected an attention map, got mamba2");
  const auto softmax = make_map(AnyMap::kSoftmax, at::kDouble);
  EXPECT_EQ(
      error_message<HookError>([&] { softmax.map->edit({.factor = 0.5, .renormalize = true}); }),
      "[HeadMap::edit] renormalize, expected factor 0 and no custom function, got factor 0.5");
  map.edit({.custom = [](Tensor rows, const MapBlock&) { return rows.sum(-1); }});
  EXPECT_EQ(error_message<ShapeError>([&] { map.block(0, 2); }),
            "[HeadMap::edit] rows from a custom edit, expected [2, 4, 2, 31], got [2, 4, 2]");
}

TEST(HeadMapErrors, InputsThatDoNotFit) {
  const Tensor x = at::zeros({1, 5, 4, 2}), B = at::zeros({1, 5, 3, 2});
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              make_ssd_map(LayerKind::Mamba2, at::zeros({1, 5, 4}), {}, B, B, x, {});
            }),
            "[make_ssd_map] heads, expected a multiple of 3 groups, got 4");
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              make_ssd_map(LayerKind::Mamba1, at::zeros({1, 5, 4}), {}, B, B, x, {});
            }),
            "[make_ssd_map] kind, expected mamba2 or discrete_mamba2, got mamba1");
  EXPECT_EQ(testing::error_message<ShapeError>([&] { make_softmax_map(x, B, B, {1}); }),
            "[make_softmax_map] heads of q, expected a multiple of 3, got 4");
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              make_s6_map(at::zeros({1, 5, 4}), at::zeros({4, 2}), at::zeros({1, 5, 2}), Tensor(),
                          at::zeros({1, 5, 4}), {});
            }),
            "[make_s6_map] C, expected shape [1, 5, 2], got no tensor");
}

}  // namespace
}  // namespace headlens
