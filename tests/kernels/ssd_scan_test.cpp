// headlens/tests: the Mamba-2 scan against plain loops, in pieces, and its gradients.
#include "headlens/kernels/ssd_scan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "kernels/autograd_tools.h"
#include "kernels/plain_scans.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::make_ssd_case;
using testing::SsdCase;
using testing::Tensors;

SsdResult scan(const SsdCase& c, int64_t chunk) {
  return ssd_scan(c.x, c.log_decay, c.dt, c.B, c.C, c.state, chunk);
}

struct ScanRow {
  std::string name;
  int64_t pos = 31, heads = 4, groups = 2, chunk = 8;
  bool with_dt = true, with_state = false;
};

class SsdScan : public ::testing::TestWithParam<ScanRow> {
 protected:
  SsdCase make() const {
    const ScanRow& r = GetParam();
    return make_ssd_case(r.pos, r.heads, r.groups, r.with_dt, r.with_state);
  }
};

// Every row changes one thing of the first.
const ScanRow kRows[] = {
    {.name = "base"},
    {.name = "one_position", .pos = 1},
    {.name = "ragged_129", .pos = 129},
    {.name = "whole_chunks", .pos = 32},
    {.name = "one_group", .groups = 1},
    {.name = "group_a_head", .groups = 4},
    {.name = "one_head", .heads = 1, .groups = 1},
    {.name = "chunk_of_1", .chunk = 1},
    {.name = "chunk_of_31", .chunk = 31},
    {.name = "chunk_longer", .chunk = 64},
    {.name = "discrete", .with_dt = false},
    {.name = "incoming_state", .with_state = true},
    {.name = "incoming_state_one_chunk", .chunk = 64, .with_state = true},
    {.name = "discrete_incoming_state", .with_dt = false, .with_state = true},
    {.name = "one_position_incoming_state", .pos = 1, .with_state = true},
};

INSTANTIATE_TEST_SUITE_P(Rows, SsdScan, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return row.param.name; });

TEST_P(SsdScan, EqualsPlainLoops) {
  const SsdCase c = make();
  const auto plain = testing::plain_ssd(c);
  const SsdResult got = scan(c, GetParam().chunk);
  EXPECT_LT(error_of(got.y, plain.y), 1e-12);
  EXPECT_LT(error_of(got.state, plain.state), 1e-12);
  // float32 rounds at 6e-8; sums of about a hundred terms of order 1 stay well within 1e-5.
  const SsdResult single = scan(c.to(at::kFloat), GetParam().chunk);
  EXPECT_EQ(single.y.scalar_type(), at::kFloat);
  EXPECT_LT(error_of(single.y, plain.y), 1e-5);
  EXPECT_LT(error_of(single.state, plain.state), 1e-5);
}

TEST_P(SsdScan, ReferenceAndStatesEqualPlainLoops) {
  const SsdCase c = make();
  const auto plain = testing::plain_ssd(c);
  const SsdResult got = ssd_scan_reference(c.x, c.log_decay, c.dt, c.B, c.C, c.state);
  EXPECT_LT(error_of(got.y, plain.y), 1e-12);
  EXPECT_LT(error_of(got.state, plain.state), 1e-12);
  const Tensor states = ssd_states(c.x, c.log_decay, c.dt, c.B, c.state);
  EXPECT_LT(error_of(states.select(1, -1), plain.state), 1e-12);
}

TEST_P(SsdScan, GradientsEqualThoseOfTheReference) {
  const SsdCase c = make();
  const int64_t chunk = GetParam().chunk;
  testing::expect_same_gradients(
      [&](const Tensors& in) -> Tensors {
        const SsdResult r = ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], chunk);
        return {r.y, r.state};
      },
      [](const Tensors& in) -> Tensors {
        const SsdResult r = ssd_scan_reference(in[0], in[1], in[2], in[3], in[4], in[5]);
        return {r.y, r.state};
      },
      {c.x, c.log_decay, c.dt, c.B, c.C, c.state}, 1e-12);
}

TEST_P(SsdScan, MapRowsTimesInputEqualsScan) {
  SsdCase c = make();
  c.state = Tensor();
  const auto plain = testing::plain_ssd(c);
  const Tensor rows = at::arange(GetParam().pos, at::kLong).expand({2, -1});
  const Tensor map = ssd_map_rows(c.log_decay, c.dt, c.B, c.C, rows, {});
  EXPECT_LT(error_of(at::matmul(map, c.x.transpose(1, 2)).transpose(1, 2), plain.y), 1e-12);
  const SsdCase f = c.to(at::kFloat);
  const Tensor single = ssd_map_rows(f.log_decay, f.dt, f.B, f.C, rows, {});
  EXPECT_LT(error_of(at::matmul(single, f.x.transpose(1, 2)).transpose(1, 2), plain.y), 1e-5);
}

TEST(SsdScanState, PiecesEqualOneGo) {
  const SsdCase c = make_ssd_case(37, 4, 2, true, true);
  const SsdResult whole = scan(c, 8);
  Tensor state = c.state;
  std::vector<Tensor> parts;
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 16}, {17, 1}, {18, 19}}) {
    const SsdResult r = scan(c.part(first, count, state), 8);
    parts.push_back(r.y);
    state = r.state;
  }
  EXPECT_LT(error_of(at::cat(parts, 1), whole.y), 1e-12);
  EXPECT_LT(error_of(state, whole.state), 1e-12);
}

TEST(SsdScanGrad, OnlyTheStateIsUsed) {
  const SsdCase c = make_ssd_case(19, 2, 1, true, false);
  testing::expect_same_gradients(
      [](const Tensors& in) -> Tensors {
        return {ssd_scan(in[0], in[1], in[2], in[3], in[3], {}, 8).state};
      },
      [](const Tensors& in) -> Tensors {
        return {ssd_scan_reference(in[0], in[1], in[2], in[3], in[3], {}).state};
      },
      {c.x, c.log_decay, c.dt, c.B}, 1e-12);
}

TEST(SsdScanGrad, GradientsOfGradients) {
  const SsdCase c = make_ssd_case(9, 2, 1, true, true);
  const auto second = [](const auto& fn) {
    return [fn](const Tensors& in) { return testing::gradients(fn, in, /*create_graph=*/true); };
  };
  testing::expect_same_gradients(
      second([](const Tensors& in) -> Tensors {
        return {ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], 4).y};
      }),
      second([](const Tensors& in) -> Tensors {
        return {ssd_scan_reference(in[0], in[1], in[2], in[3], in[4], in[5]).y};
      }),
      {c.x, c.log_decay, c.dt, c.B, c.C, c.state}, 1e-11);
}

TEST(SsdScanRange, StrongDecayStaysRight) {
  // 129 positions with log decays down to -40 each: a float32 running sum of thousands would leave
  // few digits for the small steps between.
  SsdCase c = make_ssd_case(129, 2, 1, true, false);
  c.log_decay = -testing::random_between(-9.0, 3.7, {2, 129, 2}).exp();
  const auto plain = testing::plain_ssd(c);
  const SsdResult got = scan(c.to(at::kFloat), 128);
  EXPECT_LT(error_of(got.y, plain.y), 1e-5);
  const Tensor rows = at::arange(129, at::kLong).expand({2, -1});
  const SsdCase f = c.to(at::kFloat);
  const Tensor map = ssd_map_rows(f.log_decay, f.dt, f.B, f.C, rows, {});
  EXPECT_LT(error_of(at::matmul(map, f.x.transpose(1, 2)).transpose(1, 2), plain.y), 1e-5);
}

TEST(SsdScanRange, MinusInfinityForgetsAll) {
  SsdCase c = make_ssd_case(20, 2, 1, true, true);
  c.log_decay.select(1, 11).fill_(-INFINITY);
  const auto plain = testing::plain_ssd(c);
  EXPECT_LT(error_of(scan(c, 8).y, plain.y), 1e-12);
  EXPECT_LT(error_of(scan(c.to(at::kFloat), 8).y, plain.y), 1e-5);
}

TEST(SsdScanTypes, HalfInputsComputeInFloat) {
  const SsdCase c = make_ssd_case(31, 4, 2, true, true).to(at::kBFloat16);
  const auto plain = testing::plain_ssd(c.to(at::kDouble));
  const SsdResult got = scan(c, 8);
  EXPECT_EQ(got.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.state.scalar_type(), at::kFloat);
  EXPECT_LT(error_of(got.y, plain.y), 4e-3);  // half a unit in bf16's last place
  EXPECT_LT(error_of(got.state, plain.state), 1e-5);
}

TEST(SsdMapRows, ChosenRowsAndHeads) {
  const SsdCase c = make_ssd_case(31, 4, 2, true, false);
  const Tensor all = at::arange(31, at::kLong).expand({2, -1});
  const Tensor dense = ssd_map_rows(c.log_decay, c.dt, c.B, c.C, all, {});
  const Tensor rows = at::tensor({30, 0, 7, 7, 1, 16}, at::kLong).view({2, 3});
  const Tensor heads = at::tensor({3, 0}, at::kLong);
  const Tensor got = ssd_map_rows(c.log_decay, c.dt, c.B, c.C, rows, heads);
  ASSERT_EQ(got.sizes(), at::IntArrayRef({2, 2, 3, 31}));
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_LT(error_of(got[b], dense[b].index_select(0, heads).index_select(1, rows[b])), 1e-14);
  }
}

TEST(SsdScanErrors, NameTheTensor) {
  const SsdCase c = make_ssd_case(5, 4, 2, true, false);
  EXPECT_EQ(testing::error_message<ShapeError>(
                [&] { ssd_scan(c.x, c.log_decay, c.dt.narrow(1, 0, 4), c.B, c.C, {}, 8); }),
            "[ssd_scan] dt, expected shape [2, 5, 4], got [2, 4, 4]");
  EXPECT_EQ(testing::error_message<ShapeError>([&] { scan(c, 0); }),
            "[ssd_scan] chunk, expected at least 1, got 0");
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              ssd_scan(c.x, c.log_decay, c.dt, c.B.repeat({1, 1, 2, 1}).narrow(2, 0, 3),
                       c.C.repeat({1, 1, 2, 1}).narrow(2, 0, 3), {}, 8);
            }),
            "[ssd_scan] heads, expected a multiple of 3 groups, got 4");
}

}  // namespace
}  // namespace headlens
