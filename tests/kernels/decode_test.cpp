// headlens/tests: the operations of a decoding step, on the CPU, against the same written out.
#include "headlens/kernels/decode.h"

#include <gtest/gtest.h>

#include "headlens/core/error.h"
#include "headlens/kernels/device_graph.h"
#include "kernels/decode_cases.h"
#include "kernels/decode_step_cases.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

class DecodeLinearTest : public ::testing::TestWithParam<testing::LinearCase> {};

TEST_P(DecodeLinearTest, AsWrittenOut) {
  at::manual_seed(4);
  for (const int64_t batch : {1, 3}) {
    const DecodeLinear linear = testing::make_linear(GetParam(), 24);
    const Tensor x = random_tensor({batch, 24});
    const Tensor residual = GetParam().residual ? random_tensor({batch, linear.width()}) : Tensor();
    const Tensor y = at::full({batch, linear.width()}, NAN, at::kDouble);
    decode_linear(x, linear, residual, y);
    EXPECT_LT(error_of(y, testing::plain_linear(x, linear, residual)), 1e-13);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, DecodeLinearTest, ::testing::ValuesIn(testing::kLinearCases),
                         [](const auto& row) { return row.param.name; });

class DecodeAttentionTest : public ::testing::TestWithParam<testing::StepCase> {};

TEST_P(DecodeAttentionTest, AsWrittenOut) {
  at::manual_seed(5);
  const testing::StepInputs in = testing::make_step(GetParam(), 2);
  const testing::PlainStep plain = testing::plain_step(in);
  for (const bool with_mass : {false, true}) {
    DecodeScratch scratch;
    scratch.q_turned = at::full(in.q.sizes(), NAN, at::kDouble);
    if (with_mass) scratch.log_mass = at::full({2, in.q.size(1)}, NAN, at::kDouble);
    const Tensor z = decode_attention(in.q, in.k, in.v, in.cache, in.rule, in.turn, scratch);
    EXPECT_LT(error_of(z, plain.z), 1e-12);
    if (with_mass) {
      EXPECT_LT(error_of(scratch.log_mass, plain.log_mass), 1e-12);
    }
    EXPECT_LT(error_of(in.cache.k.select(1, GetParam().position), plain.k), 1e-13);
    EXPECT_TRUE(at::equal(in.cache.v.select(1, GetParam().position), in.v));
    const Tensor heads = at::tensor({in.q.size(1) - 1, int64_t{0}}, at::kLong);
    const Tensor rows = at::full({2, 2, GetParam().room}, NAN, at::kDouble);
    decode_rows(scratch.q_turned, in.cache, in.rule, scratch.log_mass, heads, rows);
    EXPECT_LT(error_of(rows, plain.pattern.index_select(1, heads)), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, DecodeAttentionTest, ::testing::ValuesIn(testing::kStepCases),
                         [](const auto& row) { return row.param.name; });

TEST(DecodePickTest, TheFirstLargestAndOnePositionOn) {
  const Tensor logits = at::tensor({1.0, 3.0, 3.0, -1.0, 9.0, 0.0}, at::kFloat).view({2, 3});
  const Tensor ids = at::zeros({2}, at::kLong), chosen = at::full({2, 5}, -1, at::kLong);
  const Tensor position = at::full({1}, 2, at::kLong), ticket = at::zeros({1}, at::kInt);
  decode_pick(logits, ids, chosen, position, ticket);
  EXPECT_TRUE(at::equal(ids, at::tensor({1, 1}, at::kLong)));
  EXPECT_EQ(position.item<int64_t>(), 3);
  EXPECT_TRUE(at::equal(
      chosen, at::tensor({-1, -1, -1, 1, -1, -1, -1, -1, 1, -1}, at::kLong).view({2, 5})));
}

TEST(DecodeEmbedTest, RowsTimesAScale) {
  const Tensor table = random_tensor({7, 5}), out = at::zeros({2, 5}, at::kDouble);
  decode_embed(table, at::tensor({6, 0}, at::kLong), 2.5, out);
  EXPECT_LT(error_of(out, at::stack({table[6] * 2.5, table[0] * 2.5})), 1e-15);
}

TEST(DecodeErrorTest, WhatDoesNotFitIsRefused) {
  DecodeLinear linear;
  const Tensor x = random_tensor({1, 4}), y = at::zeros({1, 6}, at::kDouble);
  EXPECT_THROW(decode_linear(x, linear, {}, y), ShapeError);
  linear.weights = {random_tensor({6, 5})};
  EXPECT_THROW(decode_linear(x, linear, {}, y), ShapeError);
  linear.weights = {random_tensor({6, 4})};
  EXPECT_THROW(decode_linear(x, linear, random_tensor({1, 5}), y), ShapeError);
  linear.gated = true;
  EXPECT_THROW(decode_linear(x, linear, {}, y), ShapeError);
  DecodeScratch scratch;
  const Tensor q = random_tensor({2, 4, 8}), k = random_tensor({2, 3, 8});
  const Tensor cache = random_tensor({2, 5, 3, 8}), position = at::zeros({1}, at::kLong);
  EXPECT_THROW(decode_attention(q, k, k, {cache, cache, position}, {}, {}, scratch), ShapeError);
}

TEST(DeviceGraphTest, TheCpuRecordsNothing) {
  EXPECT_FALSE(DeviceGraph::can_record(at::kCPU));
  EXPECT_THROW(DeviceGraph::record(at::kCPU, [] {}), DeviceError);
}

}  // namespace
}  // namespace headlens
