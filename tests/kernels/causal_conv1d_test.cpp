// headlens/tests: the causal convolution against plain sums and in pieces.
#include "headlens/kernels/causal_conv1d.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;

// y_t = bias + sum_k weight[:, k] x_{t - d_conv + 1 + k}, with the state before position 0.
Tensor plain_conv(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& state) {
  const int64_t d_conv = weight.size(1);
  Tensor y = at::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t t = 0; t < x.size(1); ++t) {
      for (int64_t c = 0; c < x.size(2); ++c) {
        double sum = bias.defined() ? bias[c].item<double>() : 0;
        for (int64_t k = 0; k < d_conv; ++k) {
          const int64_t from = t - d_conv + 1 + k;
          double input = 0;
          if (from >= 0)
            input = x[b][from][c].item<double>();
          else if (state.defined())
            input = state[b][from + d_conv - 1][c].item<double>();
          sum += weight[c][k].item<double>() * input;
        }
        y[b][t][c] = sum;
      }
    }
  }
  return y;
}

class CausalConv : public ::testing::TestWithParam<std::tuple<int64_t, int64_t, bool, bool>> {};

INSTANTIATE_TEST_SUITE_P(Sizes, CausalConv,
                         ::testing::Combine(::testing::Values(1, 2, 7), ::testing::Values(1, 4),
                                            ::testing::Bool(), ::testing::Bool()));

TEST_P(CausalConv, EqualsPlainSums) {
  const auto [pos, d_conv, with_bias, with_state] = GetParam();
  at::manual_seed(5);
  const Tensor x = random_tensor({2, pos, 3}), weight = random_tensor({3, d_conv});
  const Tensor bias = with_bias ? random_tensor({3}) : Tensor();
  const Tensor state = with_state ? random_tensor({2, d_conv - 1, 3}) : Tensor();
  const CausalConvResult got = causal_conv1d(x, weight, bias, state);
  EXPECT_LT(error_of(got.y, plain_conv(x, weight, bias, state)), 1e-13);
  EXPECT_EQ(got.state.sizes(), at::IntArrayRef({2, d_conv - 1, 3}));
}

TEST(CausalConvState, PiecesEqualOneGo) {
  at::manual_seed(6);
  const Tensor x = random_tensor({2, 13, 3}), weight = random_tensor({3, 4});
  const CausalConvResult whole = causal_conv1d(x, weight, {}, {});
  Tensor state;
  std::vector<Tensor> parts;
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 1}, {2, 2}, {4, 9}}) {
    const CausalConvResult r = causal_conv1d(x.narrow(1, first, count), weight, {}, state);
    parts.push_back(r.y);
    state = r.state;
  }
  EXPECT_EQ(error_of(at::cat(parts, 1), whole.y), 0);
  EXPECT_EQ(error_of(state, whole.state), 0);
}

TEST(CausalConvGrad, EqualsConv1d) {
  at::manual_seed(7);
  const Tensor x = random_tensor({2, 9, 3}), weight = random_tensor({3, 4}),
               bias = random_tensor({3}), state = random_tensor({2, 3, 3});
  testing::expect_same_gradients(
      [](const testing::Tensors& in) -> testing::Tensors {
        return {causal_conv1d(in[0], in[1], in[2], in[3]).y};
      },
      [](const testing::Tensors& in) -> testing::Tensors {
        const Tensor padded = at::cat({in[3], in[0]}, 1).transpose(1, 2);
        return {at::conv1d(padded, in[1].unsqueeze(1), in[2], at::IntArrayRef{1},
                           at::IntArrayRef{0}, at::IntArrayRef{1}, /*groups=*/3)
                    .transpose(1, 2)};
      },
      {x, weight, bias, state}, 1e-12);
}

TEST(CausalConvTypes, HalfInputsKeepTheirDtype) {
  at::manual_seed(8);
  const Tensor x = random_tensor({1, 9, 3}, at::kBFloat16),
               weight = random_tensor({3, 4}, at::kBFloat16);
  const CausalConvResult got = causal_conv1d(x, weight, {}, {});
  EXPECT_EQ(got.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(got.state.scalar_type(), at::kBFloat16);
  const Tensor wide = plain_conv(x.to(at::kDouble), weight.to(at::kDouble), {}, {});
  EXPECT_LT(error_of(got.y, wide), 4e-3);  // half a unit in bf16's last place
}

TEST(CausalConvSilu, EqualsPlainSums) {
  at::manual_seed(9);
  const Tensor x = random_tensor({2, 7, 3}), weight = random_tensor({3, 4}),
               bias = random_tensor({3}), before = random_tensor({2, 3, 3});
  const Tensor pre = plain_conv(x, weight, bias, before);
  const CausalConvSiluResult got = causal_conv1d_silu(x, weight, bias, before, true);
  EXPECT_LT(error_of(got.y, pre), 1e-13);
  EXPECT_LT(error_of(got.silu, pre / (1 + (-pre).exp())), 1e-13);
  EXPECT_FALSE(causal_conv1d_silu(x, weight, bias, before, false).y.defined());
  Tensor state = before.clone();
  const void* place = state.data_ptr();
  std::vector<Tensor> steps;
  for (int64_t t = 0; t < 7; ++t) {
    steps.push_back(causal_conv1d_silu_step(x.narrow(1, t, 1), weight, bias, state, false).silu);
  }
  EXPECT_EQ(state.data_ptr(), place);
  EXPECT_LT(error_of(at::cat(steps, 1), got.silu), 1e-13);
  EXPECT_EQ(error_of(state, got.state), 0);
}

TEST(CausalConvErrors, NameTheTensor) {
  const Tensor x = at::zeros({2, 5, 3});
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              causal_conv1d(x, at::zeros({4, 4}), {}, {});
            }),
            "[causal_conv1d] weight, expected shape [3, -1], got [4, 4]");
  EXPECT_EQ(testing::error_message<ShapeError>([&] {
              causal_conv1d(x, at::zeros({3, 4}), {}, at::zeros({2, 4, 3}));
            }),
            "[causal_conv1d] state, expected shape [2, 3, 3], got [2, 4, 3]");
}

}  // namespace
}  // namespace headlens
