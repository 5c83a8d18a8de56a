// headlens/tests: the Mamba-2 scan of 16-bit inputs on a GPU against float64, and its gradients.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/core/device.h"
#include "headlens/kernels/ssd_scan.h"
#include "kernels/autograd_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_between;
using testing::random_tensor;
using testing::SsdCase;
using testing::Tensors;

constexpr int64_t kChunk = 64;

/// bf16 rounds outputs and the operands of products at 2e-3 each, f16 at an eighth of that; the
/// largest error of thousands is up to three times either.
double tolerance(at::ScalarType dtype) {
  return dtype == at::kBFloat16 ? 8e-3 : 1e-3;
}

struct Row {
  std::string name = {};
  int64_t batch = 2, pos = 129, heads = 4, groups = 2, d_head = 64, d_state = 128;
  bool with_dt = true, with_state = true;
  double decay_low = 0.1, decay_high = 2.0;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

/// x, B and C are views of one tensor, as a model's convolution leaves them, in `dtype`; the rest
/// is float32.
SsdCase make_case(const Row& r, at::ScalarType dtype) {
  at::manual_seed(1234);
  const int64_t inner = r.heads * r.d_head, shared = r.groups * r.d_state;
  const Tensor whole = random_tensor({r.batch, r.pos, inner + 2 * shared}).to(at::kCUDA, dtype);
  const auto there = [](const Tensor& t) { return t.to(at::kCUDA, at::kFloat); };
  SsdCase c;
  c.x = whole.narrow(-1, 0, inner).unflatten(-1, {r.heads, r.d_head});
  c.B = whole.narrow(-1, inner, shared).unflatten(-1, {r.groups, r.d_state});
  c.C = whole.narrow(-1, inner + shared, shared).unflatten(-1, {r.groups, r.d_state});
  c.dt = there(random_between(0.01, 1.0, {r.batch, r.pos, r.heads}));
  c.log_decay = -c.dt * there(random_between(r.decay_low, r.decay_high, {r.heads}));
  if (!r.with_dt) c.dt = Tensor();
  if (r.with_state) {
    c.state = there(random_tensor({r.batch, r.heads, r.d_head, r.d_state}));
  }
  return c;
}

/// The same values in float64 on the CPU.
SsdCase precise(const SsdCase& c) {
  const auto as = [](const Tensor& t) {
    return t.defined() ? t.detach().to(at::kCPU, at::kDouble) : t;
  };
  return {as(c.x), as(c.log_decay), as(c.dt), as(c.B), as(c.C), as(c.state)};
}

SsdResult scan(const SsdCase& c) {
  return ssd_scan(c.x, c.log_decay, c.dt, c.B, c.C, c.state, kChunk);
}

Tensors inputs_of(const SsdCase& c) {
  return {c.x, c.log_decay, c.dt, c.B, c.C, c.state};
}

SsdResult scan_inputs(const Tensors& in) {
  return ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], kChunk);
}

/// Gradients of <y, dy> + <state, dstate>; dstate may be undefined.
Tensors grads_of(const SsdCase& c, const Tensor& dy, const Tensor& dstate) {
  const Tensors in = testing::leaves(inputs_of(c));
  Tensors wanted;
  for (const Tensor& t : in) {
    if (t.defined()) wanted.push_back(t);
  }
  const SsdResult out = scan_inputs(in);
  if (!dstate.defined()) return torch::autograd::grad({out.y}, wanted, {dy}, {}, false, true);
  return torch::autograd::grad({out.y, out.state}, wanted, {dy, dstate}, {}, false, true);
}

class SsdCuda : public ::testing::TestWithParam<Row> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  }
};

// Every row changes one thing of the first, or is a shape of a known model.
const Row kRows[] = {
    {.name = "base"},
    {.name = "pos_2", .pos = 2},
    {.name = "pos_31", .pos = 31},
    {.name = "pos_64", .pos = 64},
    {.name = "pos_65", .pos = 65},
    {.name = "pos_1000", .batch = 1, .pos = 1000},
    {.name = "pos_4097", .batch = 1, .pos = 4097, .heads = 2, .groups = 1},
    {.name = "one_group", .groups = 1},
    {.name = "group_a_head", .groups = 4},
    {.name = "discrete", .with_dt = false},
    {.name = "no_state", .with_state = false},
    {.name = "d_state_16", .d_state = 16},
    {.name = "d_state_64", .d_state = 64},
    {.name = "d_state_104", .d_state = 104},
    {.name = "d_state_256", .d_state = 256},
    {.name = "d_head_8", .d_head = 8},
    {.name = "d_head_32", .d_head = 32},
    {.name = "d_head_96", .d_head = 96},
    {.name = "d_head_128", .d_head = 128, .d_state = 64},
    {.name = "many_sequences", .batch = 70},
    {.name = "slow_decay", .decay_low = 0.0, .decay_high = 0.01},
    {.name = "strong_decay", .decay_low = 10.0, .decay_high = 60.0},
    {.name = "mamba2", .batch = 1, .pos = 300, .heads = 80, .groups = 1, .with_state = false},
    {.name = "llamba",
     .batch = 1,
     .pos = 300,
     .heads = 32,
     .groups = 32,
     .d_head = 128,
     .d_state = 64,
     .with_dt = false},
};

INSTANTIATE_TEST_SUITE_P(Rows, SsdCuda, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return row.param.name; });

TEST_P(SsdCuda, ScanEqualsFloat64) {
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const SsdCase c = make_case(GetParam(), dtype);
    const SsdResult got = scan(c), expected = scan(precise(c));
    EXPECT_EQ(got.y.scalar_type(), dtype);
    EXPECT_EQ(got.state.scalar_type(), at::kFloat);
    EXPECT_LT(error_of(got.y, expected.y), tolerance(dtype));
    EXPECT_LT(error_of(got.state, expected.state), tolerance(dtype));
  }
}

TEST_P(SsdCuda, GradientsEqualFloat64) {
  for (const bool of_state : {false, true}) {
    for (const auto dtype : {at::kBFloat16, at::kHalf}) {
      const SsdCase c = make_case(GetParam(), dtype);
      const Tensor dy = random_tensor(c.x.sizes(), dtype);
      const Row& r = GetParam();
      const Tensor dstate =
          of_state ? random_tensor({r.batch, r.heads, r.d_head, r.d_state}, at::kFloat) : Tensor();
      const Tensors expected =
          grads_of(precise(c), dy.to(at::kDouble), of_state ? dstate.to(at::kDouble) : dstate);
      const Tensors got = grads_of(c, dy.cuda(), of_state ? dstate.cuda() : dstate);
      ASSERT_EQ(got.size(), expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_LT(error_of(got[i], expected[i]), tolerance(dtype)) << "input " << i;
      }
    }
  }
}

TEST_P(SsdCuda, TwiceGivesTheSame) {
  const SsdCase c = make_case(GetParam(), at::kBFloat16);
  const SsdResult a = scan(c), b = scan(c);
  EXPECT_TRUE(at::equal(a.y, b.y));
  EXPECT_TRUE(at::equal(a.state, b.state));
  const Tensor dy = at::ones_like(c.x);
  const Tensors first = grads_of(c, dy, {}), second = grads_of(c, dy, {});
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(at::equal(first[i], second[i])) << "input " << i;
  }
}

// One position is computed in float32: only y is rounded.
TEST_P(SsdCuda, OnePositionEqualsFloat64) {
  Row r = GetParam();
  r.pos = 1;
  for (const auto& [dtype, close] :
       {std::pair{at::kBFloat16, 4e-3}, {at::kHalf, 5e-4}, {at::kFloat, 1e-6}}) {
    const SsdCase c = make_case(r, dtype);
    const SsdResult got = scan(c), expected = scan(precise(c));
    EXPECT_EQ(got.y.scalar_type(), dtype);
    EXPECT_LT(error_of(got.y, expected.y), close);
    EXPECT_LT(error_of(got.state, expected.state), 1e-6);
  }
}

class SsdCudaOnce : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
  }
};

TEST_F(SsdCudaOnce, PiecesAndStepsEqualOneGo) {
  const SsdCase c = make_case({.pos = 203}, at::kBFloat16);
  const SsdResult whole = scan(precise(c));
  Tensor state = c.state;
  Tensors parts;
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 100}, {101, 1}, {102, 1}, {103, 100}}) {
    const SsdResult r = scan(c.part(first, count, state));
    parts.push_back(r.y);
    state = r.state;
  }
  EXPECT_LT(error_of(at::cat(parts, 1), whole.y), tolerance(at::kBFloat16));
  EXPECT_LT(error_of(state, whole.state), tolerance(at::kBFloat16));
}

TEST_F(SsdCudaOnce, MinusInfinityForgetsAll) {
  SsdCase c = make_case({.pos = 200}, at::kBFloat16);
  for (const int64_t t : {0, 63, 64, 77}) c.log_decay.select(1, t).fill_(-INFINITY);
  const SsdResult got = scan(c), expected = scan(precise(c));
  EXPECT_LT(error_of(got.y, expected.y), tolerance(at::kBFloat16));
  EXPECT_LT(error_of(got.state, expected.state), tolerance(at::kBFloat16));
}

TEST_F(SsdCudaOnce, NotANumberIsSeen) {
  SsdCase c = make_case({.pos = 200}, at::kBFloat16);
  c.log_decay[1][100][2] = NAN;
  const Tensor y = scan(c).y;
  EXPECT_TRUE(y.select(0, 0).isfinite().all().item<bool>());
  EXPECT_TRUE(y[1][100][2].isnan().all().item<bool>());
  EXPECT_TRUE(y[1][199][2].isnan().all().item<bool>());
}

// Rows that do not start at multiples of 16 bytes, and dimensions in another order.
TEST_F(SsdCudaOnce, AnyStrides) {
  const SsdCase c = make_case({}, at::kBFloat16);
  const SsdResult expected = scan(c);
  const auto moved = [](const Tensor& t) {
    const Tensor wider = at::zeros({t.size(0), t.size(1), t.size(2), t.size(3) + 3}, t.options());
    const Tensor inside = wider.narrow(-1, 3, t.size(3));
    inside.copy_(t);
    return inside;
  };
  SsdCase other = c;
  other.x = moved(c.x), other.B = moved(c.B);
  other.C = c.C.transpose(-1, -2).contiguous().transpose(-1, -2);
  other.log_decay = c.log_decay.transpose(1, 2).contiguous().transpose(1, 2);
  const SsdResult got = scan(other);
  EXPECT_TRUE(at::equal(got.y, expected.y));
  EXPECT_TRUE(at::equal(got.state, expected.state));
}

// What the device code does not take goes the other way: odd sizes, B of another dtype than x,
// float32 and float64 (which are not rounded to 16 bits).
TEST_F(SsdCudaOnce, TheRestIsRightToo) {
  const SsdCase odd = make_case({.d_head = 12, .d_state = 20}, at::kBFloat16);
  EXPECT_LT(error_of(scan(odd).y, scan(precise(odd)).y), 4e-3);
  SsdCase mixed = make_case({}, at::kBFloat16);
  mixed.B = mixed.B.to(at::kFloat);
  EXPECT_LT(error_of(scan(mixed).y, scan(precise(mixed)).y), 4e-3);
  const SsdCase single = make_case({}, at::kFloat);
  EXPECT_LT(error_of(scan(single).y, scan(precise(single)).y), 1e-5);
}

TEST_F(SsdCudaOnce, GradientsOfGradients) {
  const SsdCase c =
      make_case({.pos = 5, .heads = 2, .groups = 1, .d_head = 8, .d_state = 16}, at::kHalf);
  const auto second = [](const SsdCase& of) {
    const Tensors in = testing::leaves(inputs_of(of));
    const Tensor y = scan_inputs(in).y;
    const Tensor first =
        torch::autograd::grad({y}, {in[0]}, {at::ones_like(y)}, true, true, true)[0];
    return torch::autograd::grad({first.to(at::kDouble).square().sum()}, {in[1]}, {}, {}, false,
                                 true)[0];
  };
  EXPECT_LT(error_of(second(c), second(precise(c))), 4e-3);  // the first gradient is float16
}

}  // namespace
}  // namespace headlens
