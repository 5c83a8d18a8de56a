// headlens/tests: the selective scan's kernels against plain loops and float64 gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/core/device.h"
#include "headlens/kernels/selective_scan.h"
#include "kernels/autograd_tools.h"
#include "kernels/plain_scans.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_between;
using testing::random_tensor;
using testing::S6Case;
using testing::Tensors;

/// Half a unit in the last place of the dtype, as outputs are rounded to it. float32: exponentials
/// to two units, in a recurrence that forgets.
struct ScanType {
  std::string name;
  at::ScalarType dtype;
  double tolerance;
};

struct Shape {
  int64_t batch, pos, channels, d_state;
};

// Rounded to `dtype`; dt even in the logarithm over two decades, A from slow to fast.
S6Case make_case(const Shape& s, at::ScalarType dtype) {
  S6Case c;
  c.x = random_tensor({s.batch, s.pos, s.channels});
  c.dt = random_between(std::log(1e-2), 0, {s.batch, s.pos, s.channels}).exp();
  c.A = -random_between(0.1, 4, {s.channels, s.d_state});
  c.B = random_tensor({s.batch, s.pos, s.d_state});
  c.C = random_tensor({s.batch, s.pos, s.d_state});
  c.state = random_tensor({s.batch, s.channels, s.d_state});
  S6Case rounded = c.to(dtype).to(at::kDouble);
  rounded.A = c.A.to(at::kFloat).to(at::kDouble);
  rounded.state = c.state.to(at::kFloat).to(at::kDouble);
  return rounded;
}

class SelectiveScanCuda : public ::testing::TestWithParam<ScanType> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(31);
  }
  at::ScalarType dtype() const { return GetParam().dtype; }
  double tolerance() const { return GetParam().tolerance; }
  Tensor there(const Tensor& x) const { return x.to(at::kCUDA, dtype()); }
  static Tensor floats(const Tensor& x) { return x.to(at::kCUDA, at::kFloat); }
  /// In the middle of a wider tensor, as a projection's parts lie.
  Tensor part(const Tensor& x, int64_t before, int64_t after) const {
    return at::constant_pad_nd(there(x), {before, after}, 7).narrow(2, before, x.size(2));
  }
  SelectiveScanResult scan(const S6Case& c) const {
    return selective_scan(there(c.x), there(c.dt), floats(c.A), there(c.B), there(c.C),
                          floats(c.state));
  }
};

INSTANTIATE_TEST_SUITE_P(Types, SelectiveScanCuda,
                         ::testing::Values(ScanType{"float32", at::kFloat, 1e-5},
                                           ScanType{"float16", at::kHalf, 6e-4},
                                           ScanType{"bfloat16", at::kBFloat16, 4e-3}),
                         [](const auto& row) { return row.param.name; });

// Channels that no vector divides, and that leave part of a block; states that fill a pass, part of
// one, several; sequences in one piece (many channels) and in many.
TEST_P(SelectiveScanCuda, EqualsPlainLoops) {
  for (const Shape& s :
       {Shape{2, 1, 6, 4}, Shape{1, 31, 72, 16}, Shape{2, 129, 33, 5}, Shape{1, 65, 64, 40},
        Shape{1, 4097, 16, 16}, Shape{1, 40, 4360, 16}, Shape{1, 7, 8, 256}}) {
    const S6Case c = make_case(s, dtype());
    const auto plain = testing::plain_s6(c);
    const std::string where = std::to_string(s.pos) + " x " + std::to_string(s.channels);
    const SelectiveScanResult got = scan(c);
    EXPECT_EQ(got.y.scalar_type(), dtype());
    EXPECT_EQ(got.state.scalar_type(), at::kFloat);
    EXPECT_LT(error_of(got.y, plain.y), tolerance()) << where;
    EXPECT_LT(error_of(got.state, plain.state), 1e-5) << where;
    S6Case fresh = c;
    fresh.state = at::zeros_like(c.state);
    const SelectiveScanResult from_zeros =
        selective_scan(part(c.x, 8, 24), floats(c.dt), floats(c.A), part(c.B, 16, c.C.size(2)),
                       part(c.C, c.B.size(2), 0), {});
    EXPECT_LT(error_of(from_zeros.y, testing::plain_s6(fresh).y), tolerance()) << where;
  }
}

struct Around {
  Tensor dt_bias, D, z;
};

Around make_around(const S6Case& c, at::ScalarType dtype) {
  const int64_t channels = c.x.size(2);
  const auto single = [](const Tensor& t) { return t.to(at::kFloat).to(at::kDouble); };
  return {single(random_tensor({channels}) - 3), single(random_tensor({channels})),
          random_tensor(c.x.sizes()).to(dtype).to(at::kDouble)};
}

// float64 on the CPU takes the composed path, the GPU the fused one.
FusedScanResult fused(const Tensors& t, bool softplus, bool keep) {
  return selective_scan_fused(t[0], t[1], t[2], t[3], t[4], t[5],
                              {.dt_bias = t[6],
                               .softplus = softplus,
                               .D = t[7],
                               .z = t[8],
                               .keep_y = keep,
                               .keep_out = keep});
}

TEST_P(SelectiveScanCuda, FusedEqualsFloat64) {
  for (const bool softplus : {false, true}) {
    for (const Shape& s : {Shape{2, 1, 6, 4}, Shape{2, 129, 72, 16}, Shape{1, 50, 33, 24}}) {
      const S6Case c = make_case(s, dtype());
      const Around a = make_around(c, dtype());
      const Tensor bias = softplus ? a.dt_bias : Tensor();
      // Before softplus dt has either sign, small and past where softplus is the identity.
      const Tensor dt = softplus ? (c.x * 8).to(dtype()).to(at::kDouble) : c.dt;
      const FusedScanResult want =
          fused({c.x, dt, c.A, c.B, c.C, c.state, bias, a.D, a.z}, softplus, true);
      const FusedScanResult got =
          fused({part(c.x, 8, 0), there(dt), floats(c.A), there(c.B), there(c.C), floats(c.state),
                 softplus ? floats(bias) : bias, floats(a.D), part(a.z, 0, 16)},
                softplus, true);
      EXPECT_LT(error_of(got.y, want.y), tolerance()) << softplus << s.pos;
      EXPECT_LT(error_of(got.out, want.out), tolerance()) << softplus << s.pos;
      EXPECT_LT(error_of(got.gated, want.gated), tolerance()) << softplus << s.pos;
      EXPECT_LT(error_of(got.state, want.state), 1e-5) << softplus << s.pos;
    }
  }
}

// Gradients of everything, of each in its own dtype, against those of float64.
TEST_P(SelectiveScanCuda, GradientsEqualFloat64) {
  for (const bool softplus : {false, true}) {
    for (const Shape& s : {Shape{1, 1, 8, 16}, Shape{2, 129, 72, 16}, Shape{1, 50, 33, 24},
                           Shape{1, 700, 16, 16}, Shape{1, 33, 4360, 16}}) {
      const S6Case c = make_case(s, dtype());
      const Around a = make_around(c, dtype());
      const auto outputs = [&](const Tensors& t) -> Tensors {
        const FusedScanResult r = fused(t, softplus, false);
        return {r.gated, r.state};
      };
      // Without softplus the bias must leave dt positive.
      const Tensors in = {c.x,
                          softplus ? c.x - 2 : c.dt,
                          c.A,
                          c.B,
                          c.C,
                          c.state,
                          softplus ? a.dt_bias : a.dt_bias.abs() / 100,
                          a.D,
                          a.z};
      Tensors here, over;
      for (size_t i = 0; i < in.size(); ++i) {
        const bool own = i < 2 || i == 3 || i == 4 || i == 8;
        over.push_back((own ? there(in[i]) : floats(in[i])).requires_grad_());
        here.push_back(over.back().detach().to(at::kCPU, at::kDouble).requires_grad_());
      }
      const Tensor of_y = random_tensor(c.x.sizes()).to(dtype()).to(at::kDouble);
      const Tensor of_state = random_tensor(c.state.sizes()).to(at::kFloat).to(at::kDouble);
      const Tensors wanted = outputs(here), got = outputs(over);
      const Tensors expected = torch::autograd::grad(wanted, here, {of_y, of_state});
      const Tensors grads = torch::autograd::grad(got, over, {there(of_y), floats(of_state)});
      for (size_t i = 0; i < grads.size(); ++i) {
        EXPECT_EQ(grads[i].scalar_type(), over[i].scalar_type());
        // Rounded at the end, and at the gate before it, in sums that may end up smaller than
        // their parts.
        EXPECT_LT(error_of(grads[i], expected[i]), 3 * tolerance())
            << "input " << i << ", " << s.pos << " x " << s.channels << softplus;
      }
    }
  }
}

// Plain scan, each output alone, and twice.
TEST(SelectiveScanCudaGrad, PartsAndGradientsOfGradients) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  at::manual_seed(32);
  const S6Case c = make_case({2, 37, 6, 4}, at::kFloat);
  const auto plain = [](const Tensors& t) -> Tensors {
    return {selective_scan(t[0], t[1], t[2], t[3], t[4], t[5]).y};
  };
  const auto state = [](const Tensors& t) -> Tensors {
    return {selective_scan(t[0], t[1], t[2], t[3], t[4], {}).state};
  };
  const Tensors wide = {c.x, c.dt, c.A, c.B, c.C, c.state};
  const auto compare = [&](const auto& fn, double tolerance) {
    // weighted_sum draws its weights on the outputs' device: ones are the same everywhere.
    const auto sum = [&](const Tensors& t) -> Tensor { return fn(t).front().square().sum(); };
    Tensors here = testing::leaves(wide), over;
    for (const Tensor& t : wide) over.push_back(t.to(at::kCUDA, at::kFloat).requires_grad_());
    const auto first = [&](const Tensors& t, bool again) {
      return torch::autograd::grad({sum(t)}, t, {}, true, again, true);
    };
    const Tensors a = first(over, false), b = first(here, false);
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].defined(), b[i].defined()) << i;
      if (!a[i].defined()) continue;
      EXPECT_LT(error_of(a[i], b[i]), tolerance) << i;
    }
    const auto second = [&](const Tensors& t) {
      Tensor total = at::zeros({}, t[0].options());
      for (const Tensor& g : first(t, true)) {
        if (g.defined()) total = total + g.square().sum();
      }
      return torch::autograd::grad({total}, t, {}, true, false, true);
    };
    const Tensors aa = second(over), bb = second(here);
    for (size_t i = 0; i < aa.size(); ++i) {
      if (!aa[i].defined()) continue;
      EXPECT_LT(error_of(aa[i], bb[i]), 10 * tolerance) << "twice, " << i;
    }
  };
  compare(plain, 1e-5);
  compare(state, 1e-5);
}

TEST(SelectiveScanCudaGrad, SumsAreMadeInOneOrder) {
  if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  at::manual_seed(33);
  const S6Case c = make_case({2, 300, 200, 16}, at::kFloat);
  Tensors in;
  for (const Tensor& t : {c.x, c.dt, c.A, c.B, c.C, c.state}) {
    in.push_back(t.to(at::kCUDA, at::kFloat).requires_grad_());
  }
  const auto grads = [&] {
    return torch::autograd::grad({selective_scan(in[0], in[1], in[2], in[3], in[4], in[5]).y.sum()},
                                 in);
  };
  const Tensors a = grads(), b = grads();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

TEST_P(SelectiveScanCuda, StepsAndPartsEqualOneGo) {
  const S6Case c = make_case({2, 37, 40, 16}, dtype());
  const Around a = make_around(c, dtype());
  const ScanSurroundings around{.dt_bias = floats(a.dt_bias), .softplus = true, .D = floats(a.D)};
  const auto gate = [&](int64_t first, int64_t count) {
    ScanSurroundings with = around;
    with.z = there(a.z).narrow(1, first, count);
    return with;
  };
  const Tensor x = there(c.x), dt = there(c.dt), A = floats(c.A), B = there(c.B), C = there(c.C);
  const FusedScanResult whole = selective_scan_fused(x, dt, A, B, C, floats(c.state), gate(0, 37));
  Tensor state = floats(c.state).clone();
  const void* place = state.data_ptr();
  Tensors parts;
  for (int64_t t = 0; t < 37; t += t == 5 ? 20 : 1) {
    const int64_t n = t == 5 ? 20 : 1;
    const auto cut = [&](const Tensor& all) { return all.narrow(1, t, n); };
    if (n > 1) {
      const auto r = selective_scan_fused(cut(x), cut(dt), A, cut(B), cut(C), state, gate(t, n));
      parts.push_back(r.gated);
      state.copy_(r.state);
    } else {
      parts.push_back(
          selective_scan_step(cut(x), cut(dt), A, cut(B), cut(C), state, gate(t, 1)).gated);
    }
  }
  EXPECT_EQ(state.data_ptr(), place);
  EXPECT_LT(error_of(at::cat(parts, 1), whole.gated), 2 * tolerance());  // both are rounded
  EXPECT_LT(error_of(state, whole.state), 1e-5);
}

}  // namespace
}  // namespace headlens
