// headlens/tests: the Mamba-1 scan against plain loops, in pieces, and its gradients.
#include "headlens/kernels/selective_scan.h"

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
using testing::make_s6_case;
using testing::S6Case;
using testing::Tensors;

SelectiveScanResult scan(const S6Case& c) {
  return selective_scan(c.x, c.dt, c.A, c.B, c.C, c.state);
}

struct ScanRow {
  std::string name;
  int64_t pos = 31;
  bool with_state = false;
  double dt_low = 0.01, dt_high = 1.0;
};

class SelectiveScan : public ::testing::TestWithParam<ScanRow> {
 protected:
  S6Case make() const {
    const ScanRow& r = GetParam();
    return make_s6_case(r.pos, r.with_state, r.dt_low, r.dt_high);
  }
};

const ScanRow kRows[] = {
    {.name = "base"},
    {.name = "one_position", .pos = 1},
    {.name = "two_positions", .pos = 2},
    {.name = "positions_129", .pos = 129},
    {.name = "incoming_state", .with_state = true},
    {.name = "one_position_incoming_state", .pos = 1, .with_state = true},
    {.name = "extreme_dt", .pos = 129, .dt_low = 1e-4, .dt_high = 20.0},
    {.name = "extreme_dt_incoming_state",
     .pos = 129,
     .with_state = true,
     .dt_low = 1e-4,
     .dt_high = 20.0},
};

INSTANTIATE_TEST_SUITE_P(Rows, SelectiveScan, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return row.param.name; });

TEST_P(SelectiveScan, EqualsPlainLoops) {
  const S6Case c = make();
  const auto plain = testing::plain_s6(c);
  const SelectiveScanResult got = scan(c);
  EXPECT_LT(error_of(got.y, plain.y), 1e-12);
  EXPECT_LT(error_of(got.state, plain.state), 1e-12);
  // float32: the recurrence forgets, so its rounding errors do not pile up.
  const SelectiveScanResult single = scan(c.to(at::kFloat));
  EXPECT_EQ(single.y.scalar_type(), at::kFloat);
  EXPECT_LT(error_of(single.y, plain.y), 1e-5);
  EXPECT_LT(error_of(single.state, plain.state), 1e-5);
}

TEST_P(SelectiveScan, ReferenceAndStatesEqualPlainLoops) {
  const S6Case c = make();
  const auto plain = testing::plain_s6(c);
  const auto got = selective_scan_reference(c.x, c.dt, c.A, c.B, c.C, c.state);
  EXPECT_LT(error_of(got.y, plain.y), 1e-12);
  EXPECT_LT(error_of(got.state, plain.state), 1e-12);
  const Tensor states = selective_scan_states(c.x, c.dt, c.A, c.B, c.state);
  EXPECT_LT(error_of(states.select(1, -1), plain.state), 1e-12);
}

TEST_P(SelectiveScan, GradientsEqualThoseOfTheReference) {
  const S6Case c = make();
  testing::expect_same_gradients(
      [](const Tensors& in) -> Tensors {
        const auto r = selective_scan(in[0], in[1], in[2], in[3], in[4], in[5]);
        return {r.y, r.state};
      },
      [](const Tensors& in) -> Tensors {
        const auto r = selective_scan_reference(in[0], in[1], in[2], in[3], in[4], in[5]);
        return {r.y, r.state};
      },
      {c.x, c.dt, c.A, c.B, c.C, c.state}, 1e-12);
}

TEST_P(SelectiveScan, MapRowsTimesInputEqualsScan) {
  S6Case c = make();
  c.state = Tensor();
  const auto plain = testing::plain_s6(c);
  const Tensor rows = at::arange(GetParam().pos, at::kLong).expand({2, -1});
  const auto product = [&](const S6Case& in) {
    const Tensor map = selective_scan_map_rows(in.dt, in.A, in.B, in.C, rows, {});
    return at::matmul(map, in.x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2);
  };
  EXPECT_LT(error_of(product(c), plain.y), 1e-12);
  EXPECT_LT(error_of(product(c.to(at::kFloat)), plain.y), 1e-5);
}

TEST(SelectiveScanState, PiecesEqualOneGo) {
  const S6Case c = make_s6_case(37, true);
  const SelectiveScanResult whole = scan(c);
  Tensor state = c.state;
  std::vector<Tensor> parts;
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 16}, {17, 1}, {18, 19}}) {
    const SelectiveScanResult r = scan(c.part(first, count, state));
    parts.push_back(r.y);
    state = r.state;
  }
  EXPECT_LT(error_of(at::cat(parts, 1), whole.y), 1e-12);
  EXPECT_LT(error_of(state, whole.state), 1e-12);
}

TEST(SelectiveScanGrad, OnlyTheStateIsUsed) {
  const S6Case c = make_s6_case(19, false);
  testing::expect_same_gradients(
      [](const Tensors& in) -> Tensors {
        return {selective_scan(in[0], in[1], in[2], in[3], in[3], {}).state};
      },
      [](const Tensors& in) -> Tensors {
        return {selective_scan_reference(in[0], in[1], in[2], in[3], in[3], {}).state};
      },
      {c.x, c.dt, c.A, c.B}, 1e-12);
}

TEST(SelectiveScanGrad, GradientsOfGradients) {
  const S6Case c = make_s6_case(9, true);
  const auto second = [](const auto& fn) {
    return [fn](const Tensors& in) { return testing::gradients(fn, in, /*create_graph=*/true); };
  };
  testing::expect_same_gradients(
      second([](const Tensors& in) -> Tensors {
        return {selective_scan(in[0], in[1], in[2], in[3], in[4], in[5]).y};
      }),
      second([](const Tensors& in) -> Tensors {
        return {selective_scan_reference(in[0], in[1], in[2], in[3], in[4], in[5]).y};
      }),
      {c.x, c.dt, c.A, c.B, c.C, c.state}, 1e-11);
}

TEST(SelectiveScanGrad, MapRowsRecordLikeFiniteDifferences) {
  const S6Case c = make_s6_case(6, false);
  const Tensor rows = at::tensor({5, 2, 3, 0}, at::kLong).view({2, 2});
  const auto value = [&](const Tensors& in) {
    return testing::weighted_sum({selective_scan_map_rows(in[0], in[1], in[2], in[3], rows, {})});
  };
  const Tensors inputs = {c.dt, c.A, c.B, c.C};
  const Tensors grads = testing::gradients(
      [&](const Tensors& in) -> Tensors {
        return {selective_scan_map_rows(in[0], in[1], in[2], in[3], rows, {})};
      },
      testing::leaves(inputs));
  constexpr double kStep = 1e-6;
  for (size_t i = 0; i < inputs.size(); ++i) {
    for (const int64_t at : {int64_t{0}, inputs[i].numel() / 2, inputs[i].numel() - 1}) {
      double ends[2];
      for (int side = 0; side < 2; ++side) {
        Tensors moved = inputs;
        moved[i] = inputs[i].clone();
        moved[i].view({-1})[at] += side == 0 ? -kStep : kStep;
        ends[side] = value(moved).item<double>();
      }
      // A central difference of step 1e-6 is good to about 1e-9 for functions of order 1.
      EXPECT_NEAR(grads[i].reshape({-1})[at].item<double>(), (ends[1] - ends[0]) / (2 * kStep),
                  1e-7)
          << "input " << i << " element " << at;
    }
  }
}

TEST(SelectiveScanTypes, HalfInputsComputeInFloat) {
  const S6Case c = make_s6_case(31, true).to(at::kBFloat16);
  const auto plain = testing::plain_s6(c.to(at::kDouble));
  const SelectiveScanResult got = scan(c);
  EXPECT_EQ(got.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.state.scalar_type(), at::kFloat);
  EXPECT_LT(error_of(got.y, plain.y), 4e-3);  // half a unit in bf16's last place
  EXPECT_LT(error_of(got.state, plain.state), 1e-5);
}

TEST(SelectiveScanMapRows, ChosenRowsAndChannels) {
  const S6Case c = make_s6_case(31, false);
  const Tensor all = at::arange(31, at::kLong).expand({2, -1});
  const Tensor dense = selective_scan_map_rows(c.dt, c.A, c.B, c.C, all, {});
  const Tensor rows = at::tensor({30, 0, 7, 7, 1, 16}, at::kLong).view({2, 3});
  const Tensor channels = at::tensor({5, 0, 2}, at::kLong);
  const Tensor got = selective_scan_map_rows(c.dt, c.A, c.B, c.C, rows, channels);
  ASSERT_EQ(got.sizes(), at::IntArrayRef({2, 3, 3, 31}));
  for (int64_t b = 0; b < 2; ++b) {
    EXPECT_LT(error_of(got[b], dense[b].index_select(0, channels).index_select(1, rows[b])), 1e-14);
  }
}

TEST(SelectiveScanMapRows, ManyChannelsInBlocks) {
  // 2 x 129 x 129 entries a channel: more than one block of channels on the CPU.
  at::manual_seed(7);
  const int64_t channels = 9;
  const Tensor dt = testing::random_between(0.01, 1, {2, 129, channels});
  const Tensor A = -testing::random_between(0.5, 4, {channels, 2});
  const Tensor B = testing::random_tensor({2, 129, 2}), C = testing::random_tensor({2, 129, 2});
  const Tensor rows = at::arange(129, at::kLong).expand({2, -1});
  const Tensor whole = selective_scan_map_rows(dt, A, B, C, rows, {});
  for (int64_t d = 0; d < channels; ++d) {
    const Tensor one = selective_scan_map_rows(dt, A, B, C, rows, at::tensor({d}, at::kLong));
    EXPECT_LT(error_of(whole.narrow(1, d, 1), one), 1e-14) << d;
  }
}

// softplus(dt + bias) before, D x and silu(z) after, each written out.
TEST(SelectiveScanFused, EqualsPlainLoops) {
  S6Case c = make_s6_case(19, true);
  const Tensor bias = testing::random_tensor({6}), D = testing::random_tensor({6}),
               z = testing::random_tensor({2, 19, 6});
  S6Case activated = c;
  activated.dt = (1 + (c.dt + bias).exp()).log();
  const auto plain = testing::plain_s6(activated);
  const Tensor out = plain.y + D * c.x, gated = out * z / (1 + (-z).exp());
  const auto fused = [&](const ScanSurroundings& around) {
    return selective_scan_fused(c.x, c.dt, c.A, c.B, c.C, c.state, around);
  };
  const FusedScanResult all =
      fused({.dt_bias = bias, .softplus = true, .D = D, .z = z, .keep_y = true, .keep_out = true});
  EXPECT_LT(error_of(all.y, plain.y), 1e-12);
  EXPECT_LT(error_of(all.out, out), 1e-12);
  EXPECT_LT(error_of(all.gated, gated), 1e-12);
  EXPECT_LT(error_of(all.state, plain.state), 1e-12);
  const FusedScanResult one = fused({.dt_bias = bias, .softplus = true, .D = D, .z = z});
  EXPECT_FALSE(one.y.defined() || one.out.defined());
  const FusedScanResult open = fused({});
  EXPECT_FALSE(open.gated.defined());
  EXPECT_LT(error_of(open.out, testing::plain_s6(c).y), 1e-12);
}

TEST(SelectiveScanFused, StepsEqualOneGo) {
  const S6Case c = make_s6_case(7, true);
  const Tensor D = testing::random_tensor({6});
  const FusedScanResult whole = selective_scan_fused(c.x, c.dt, c.A, c.B, c.C, c.state, {.D = D});
  Tensor state = c.state.clone();
  const void* place = state.data_ptr();
  std::vector<Tensor> steps;
  for (int64_t t = 0; t < 7; ++t) {
    const S6Case at = c.part(t, 1, {});
    steps.push_back(selective_scan_step(at.x, at.dt, at.A, at.B, at.C, state, {.D = D}).out);
  }
  EXPECT_EQ(state.data_ptr(), place);
  EXPECT_LT(error_of(at::cat(steps, 1), whole.out), 1e-12);
  EXPECT_LT(error_of(state, whole.state), 1e-12);
}

TEST(SelectiveScanErrors, FusedNameTheTensor) {
  const S6Case c = make_s6_case(5, true);
  EXPECT_EQ(testing::error_message<ShapeError>(
                [&] { selective_scan_fused(c.x, c.dt, c.A, c.B, c.C, {}, {.D = at::zeros({5})}); }),
            "[selective_scan_fused] D, expected shape [6], got [5]");
  Tensor half = c.state.to(at::kHalf);
  const S6Case one = c.part(0, 1, {});
  EXPECT_EQ(testing::error_message<ShapeError>(
                [&] { selective_scan_step(one.x, one.dt, one.A, one.B, one.C, half, {}); }),
            "[selective_scan_step] state, expected a contiguous tensor of float32 or float64, got "
            "float16");
}

TEST(SelectiveScanErrors, NameTheTensor) {
  const S6Case c = make_s6_case(5, false);
  EXPECT_EQ(testing::error_message<ShapeError>(
                [&] { selective_scan(c.x, c.dt, c.A, c.B.narrow(2, 0, 3), c.C, {}); }),
            "[selective_scan] B, expected shape [2, 5, 4], got [2, 5, 3]");
  EXPECT_EQ(testing::error_message<ShapeError>(
                [&] { selective_scan(c.x.to(at::kLong), c.dt, c.A, c.B, c.C, {}); }),
            "[selective_scan] dtype, expected floating point, got int64");
}

}  // namespace
}  // namespace headlens
