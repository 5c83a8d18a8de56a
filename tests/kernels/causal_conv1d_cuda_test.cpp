// headlens/tests: the causal convolution's kernels against float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/core/device.h"
#include "headlens/kernels/causal_conv1d.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;
using testing::Tensors;

/// `weight`: the dtype of weight and bias. Half a unit in the last place of the narrowest.
struct ConvType {
  std::string name;
  at::ScalarType dtype, weight;
  double tolerance;
};

struct Shape {
  int64_t batch, pos, channels, d_conv;
};

class CausalConvCuda : public ::testing::TestWithParam<ConvType> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(41);
  }
  at::ScalarType dtype() const { return GetParam().dtype; }
  double tolerance() const { return GetParam().tolerance; }

  /// x, weight, bias, state on the GPU; x in the middle of a wider tensor where `gap`.
  Tensors make(const Shape& s, bool gap) const {
    const Tensor x = random_tensor({s.batch, s.pos, s.channels + (gap ? 16 : 0)});
    return {x.to(at::kCUDA, dtype()).narrow(2, gap ? 8 : 0, s.channels),
            random_tensor({s.channels, s.d_conv}).to(at::kCUDA, GetParam().weight),
            random_tensor({s.channels}).to(at::kCUDA, GetParam().weight),
            random_tensor({s.batch, s.d_conv - 1, s.channels}).to(at::kCUDA, dtype())};
  }
  static Tensors wide(const Tensors& in) {
    Tensors out;
    for (const Tensor& t : in) out.push_back(t.detach().to(at::kCPU, at::kDouble));
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Types, CausalConvCuda,
                         ::testing::Values(ConvType{"float32", at::kFloat, at::kFloat, 1e-6},
                                           ConvType{"float16", at::kHalf, at::kHalf, 6e-4},
                                           ConvType{"bfloat16", at::kBFloat16, at::kBFloat16, 4e-3},
                                           ConvType{"bfloat16_by_float32", at::kBFloat16,
                                                    at::kFloat, 4e-3}),
                         [](const auto& row) { return row.param.name; });

const Shape kShapes[] = {{2, 1, 64, 4}, {1, 2, 37, 4}, {2, 31, 72, 3},   {1, 129, 64, 4},
                         {2, 45, 9, 1}, {1, 5, 16, 8}, {1, 4097, 24, 4}, {1, 50, 40, 2}};

std::string name_of(const Shape& s) {
  return std::to_string(s.pos) + " x " + std::to_string(s.channels) + ", width " +
         std::to_string(s.d_conv);
}

TEST_P(CausalConvCuda, EqualsFloat64) {
  for (const Shape& s : kShapes) {
    for (const bool gap : {false, true}) {
      const Tensors in = make(s, gap), w = wide(in);
      const CausalConvSiluResult got = causal_conv1d_silu(in[0], in[1], in[2], in[3], true);
      const CausalConvResult want = causal_conv1d(w[0], w[1], w[2], w[3]);
      EXPECT_LT(error_of(got.y, want.y), tolerance()) << name_of(s);
      EXPECT_LT(error_of(got.silu, at::silu(want.y)), tolerance()) << name_of(s);
      EXPECT_EQ(error_of(got.state, want.state), 0) << name_of(s);
      EXPECT_TRUE(at::equal(causal_conv1d_silu(in[0], in[1], in[2], in[3], false).silu, got.silu));
      const CausalConvResult bare = causal_conv1d(in[0], in[1], {}, {});
      const CausalConvResult bare_want = causal_conv1d(w[0], w[1], {}, {});
      EXPECT_LT(error_of(bare.y, bare_want.y), tolerance()) << name_of(s);
      EXPECT_EQ(error_of(bare.state, bare_want.state), 0) << name_of(s);
    }
  }
}

TEST_P(CausalConvCuda, GradientsEqualFloat64) {
  for (const Shape& s : kShapes) {
    for (const bool silu : {false, true}) {
      const auto outputs = [&](const Tensors& t) -> Tensors {
        if (!silu) {
          const CausalConvResult r = causal_conv1d(t[0], t[1], t[2], t[3]);
          return {r.y, r.state};
        }
        const CausalConvSiluResult r = causal_conv1d_silu(t[0], t[1], t[2], t[3], true);
        return {r.y, r.state, r.silu};
      };
      Tensors over = make(s, true), here = wide(over), of_here, of_over;
      for (Tensor& t : over) t.requires_grad_();
      for (Tensor& t : here) t.requires_grad_();
      const Tensors got = outputs(over), want = outputs(here);
      for (const Tensor& t : got) {
        of_over.push_back(random_tensor(t.sizes()).to(at::kCUDA, t.scalar_type()));
        of_here.push_back(of_over.back().to(at::kCPU, at::kDouble));
      }
      const Tensors a = torch::autograd::grad(got, over, of_over),
                    b = torch::autograd::grad(want, here, of_here);
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].scalar_type(), over[i].scalar_type());
        EXPECT_LT(error_of(a[i], b[i]), tolerance()) << "input " << i << ", " << name_of(s) << silu;
      }
    }
  }
}

TEST_P(CausalConvCuda, StepsAndPartsEqualOneGo) {
  const Tensors in = make({2, 13, 40, 4}, true);
  const CausalConvSiluResult whole = causal_conv1d_silu(in[0], in[1], in[2], in[3], false);
  Tensor state = in[3].clone();
  const void* place = state.data_ptr();
  Tensors parts;
  for (int64_t t = 0; t < 13; t += t == 4 ? 2 : 1) {
    const Tensor x = in[0].narrow(1, t, t == 4 ? 2 : 1);
    if (t == 4) {
      const CausalConvSiluResult r = causal_conv1d_silu(x, in[1], in[2], state, false);
      parts.push_back(r.silu);
      state.copy_(r.state);
    } else {
      parts.push_back(causal_conv1d_silu_step(x, in[1], in[2], state, false).silu);
    }
  }
  EXPECT_EQ(state.data_ptr(), place);
  EXPECT_EQ(error_of(at::cat(parts, 1), whole.silu), 0);
  EXPECT_EQ(error_of(state, whole.state), 0);
}

TEST(CausalConvCudaGrad, GradientsOfGradients) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  at::manual_seed(42);
  const Tensors wide = {random_tensor({2, 9, 3}), random_tensor({3, 4}), random_tensor({3}),
                        random_tensor({2, 3, 3})};
  const auto second = [](const Tensors& t) {
    const Tensor y = causal_conv1d_silu(t[0], t[1], t[2], t[3], false).silu;
    Tensor total = at::zeros({}, y.options());
    for (const Tensor& g : torch::autograd::grad({y.square().sum()}, t, {}, true, true)) {
      total = total + g.square().sum();
    }
    return torch::autograd::grad({total}, t);
  };
  Tensors over;
  for (const Tensor& t : wide) over.push_back(t.to(at::kCUDA, at::kFloat).requires_grad_());
  const Tensors a = second(over), b = second(testing::leaves(wide));
  // Two differentiations of float32 sums of some hundred products.
  for (size_t i = 0; i < a.size(); ++i) EXPECT_LT(error_of(a[i], b[i]), 1e-4) << i;
}

}  // namespace
}  // namespace headlens
