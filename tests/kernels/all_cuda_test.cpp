// headlens/tests: every op on a GPU against plain loops, and its gradients there.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/core/device.h"
#include "headlens/kernels/attention.h"
#include "headlens/kernels/causal_conv1d.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_scan.h"
#include "kernels/autograd_tools.h"
#include "kernels/plain_scans.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;
using testing::S6Case;
using testing::SsdCase;
using testing::Tensors;

/// An input dtype with the error it may leave. bf16: half a unit in its last place, as outputs are
/// rounded to it while the sums are float32.
struct Precision {
  std::string name;
  at::ScalarType dtype;
  double tolerance;
};

class OpsCuda : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(21);
  }

  at::ScalarType dtype() const { return GetParam().dtype; }
  double tolerance() const { return GetParam().tolerance; }
  bool exact() const { return dtype() == at::kDouble; }
  /// On the GPU, in the row's dtype; undefined tensors stay so.
  Tensor there(const Tensor& x) const {
    return x.defined() ? x.to(at::kCUDA, x.is_floating_point() ? dtype() : x.scalar_type()) : x;
  }
  /// What `there` holds, as the plain loops want it.
  Tensor rounded(const Tensor& x) const { return x.to(dtype()).to(at::kDouble); }
};

const Precision kPrecisions[] = {{"float64", at::kDouble, 1e-12},
                                 {"float32", at::kFloat, 1e-5},
                                 {"bfloat16", at::kBFloat16, 4e-3}};

INSTANTIATE_TEST_SUITE_P(Types, OpsCuda, ::testing::ValuesIn(kPrecisions),
                         [](const auto& row) { return row.param.name; });

TEST_P(OpsCuda, SsdScan) {
  for (const int64_t pos : {1, 31, 300}) {
    const SsdCase c = testing::make_ssd_case(pos, 4, 2, true, true).to(dtype()).to(at::kDouble);
    const auto plain = testing::plain_ssd(c);
    const Tensors in = {there(c.x), there(c.log_decay), there(c.dt),
                        there(c.B), there(c.C),         there(c.state)};
    const SsdResult got = ssd_scan(in[0], in[1], in[2], in[3], in[4], in[5], 64);
    EXPECT_TRUE(got.y.is_cuda());
    EXPECT_LT(error_of(got.y, plain.y), tolerance()) << "positions " << pos;
    EXPECT_LT(error_of(got.state, plain.state), exact() ? 1e-12 : 1e-5) << "positions " << pos;
    if (!exact()) continue;
    testing::expect_same_gradients(
        [](const Tensors& t) -> Tensors {
          const SsdResult r = ssd_scan(t[0], t[1], t[2], t[3], t[4], t[5], 64);
          return {r.y, r.state};
        },
        [](const Tensors& t) -> Tensors {
          const SsdResult r = ssd_scan_reference(t[0], t[1], t[2], t[3], t[4], t[5]);
          return {r.y, r.state};
        },
        in, 1e-11);
  }
}

TEST_P(OpsCuda, SelectiveScan) {
  for (const int64_t pos : {1, 31, 300}) {
    const S6Case c = testing::make_s6_case(pos, true, 1e-3, 5.0).to(dtype()).to(at::kDouble);
    const auto plain = testing::plain_s6(c);
    const Tensors in = {there(c.x), there(c.dt), there(c.A),
                        there(c.B), there(c.C),  there(c.state)};
    const SelectiveScanResult got = selective_scan(in[0], in[1], in[2], in[3], in[4], in[5]);
    EXPECT_TRUE(got.y.is_cuda());
    EXPECT_LT(error_of(got.y, plain.y), tolerance()) << "positions " << pos;
    EXPECT_LT(error_of(got.state, plain.state), exact() ? 1e-12 : 1e-5) << "positions " << pos;
    if (!exact()) continue;
    testing::expect_same_gradients(
        [](const Tensors& t) -> Tensors {
          const auto r = selective_scan(t[0], t[1], t[2], t[3], t[4], t[5]);
          return {r.y, r.state};
        },
        [](const Tensors& t) -> Tensors {
          const auto r = selective_scan_reference(t[0], t[1], t[2], t[3], t[4], t[5]);
          return {r.y, r.state};
        },
        in, 1e-11);
  }
}

// Rows times the input are the scan's output; map rows stay in float32 for bf16 inputs.
TEST_P(OpsCuda, MapRowsTimesInputEqualsScan) {
  const int64_t pos = 70;
  const Tensor rows = at::arange(pos, at::kLong).expand({2, -1}).to(at::kCUDA);
  const double close = exact() ? 1e-12 : 1e-5;

  const SsdCase ssd = testing::make_ssd_case(pos, 4, 2, true, false).to(dtype()).to(at::kDouble);
  const Tensor ssd_map =
      ssd_map_rows(there(ssd.log_decay), there(ssd.dt), there(ssd.B), there(ssd.C), rows, {});
  const Tensor x = ssd.x.transpose(1, 2).to(at::kCUDA, ssd_map.scalar_type());
  EXPECT_LT(error_of(at::matmul(ssd_map, x).transpose(1, 2), testing::plain_ssd(ssd).y), close);

  const S6Case s6 = testing::make_s6_case(pos, false, 1e-3, 5.0).to(dtype()).to(at::kDouble);
  const Tensor s6_map =
      selective_scan_map_rows(there(s6.dt), there(s6.A), there(s6.B), there(s6.C), rows, {});
  const Tensor u = s6.x.transpose(1, 2).unsqueeze(-1).to(at::kCUDA, s6_map.scalar_type());
  EXPECT_LT(error_of(at::matmul(s6_map, u).squeeze(-1).transpose(1, 2), testing::plain_s6(s6).y),
            close);
}

TEST_P(OpsCuda, States) {
  const SsdCase ssd = testing::make_ssd_case(31, 4, 2, true, true).to(dtype()).to(at::kDouble);
  const Tensor ssd_all =
      ssd_states(there(ssd.x), there(ssd.log_decay), there(ssd.dt), there(ssd.B), there(ssd.state));
  const double close = exact() ? 1e-12 : 1e-5;
  EXPECT_LT(error_of(ssd_all.select(1, -1), testing::plain_ssd(ssd).state), close);
  const S6Case s6 = testing::make_s6_case(31, true).to(dtype()).to(at::kDouble);
  const Tensor s6_all =
      selective_scan_states(there(s6.x), there(s6.dt), there(s6.A), there(s6.B), there(s6.state));
  EXPECT_LT(error_of(s6_all.select(1, -1), testing::plain_s6(s6).state), close);
}

TEST_P(OpsCuda, CausalConv) {
  const Tensor x = rounded(random_tensor({2, 29, 6})), weight = rounded(random_tensor({6, 4}));
  const Tensor bias = rounded(random_tensor({6})), state = rounded(random_tensor({2, 3, 6}));
  const CausalConvResult here = causal_conv1d(x, weight, bias, state);
  const CausalConvResult got = causal_conv1d(there(x), there(weight), there(bias), there(state));
  EXPECT_LT(error_of(got.y, here.y), tolerance());
  EXPECT_EQ(error_of(got.state, here.state), 0);
}

// A row for each way through attention: prefill, decoding one position, several, with and without
// groups. Lengths past a tile of the fused kernels.
TEST_P(OpsCuda, Attention) {
  for (const auto& [queries, keys, kv_heads] : {std::tuple<int64_t, int64_t, int64_t>{1, 1, 2},
                                                {150, 150, 2},
                                                {150, 150, 4},
                                                {1, 150, 2},
                                                {5, 150, 2},
                                                {5, 150, 4}}) {
    const Tensor q = rounded(random_tensor({2, queries, 4, 16}));
    const Tensor k = rounded(random_tensor({2, keys, kv_heads, 16}));
    const Tensor v = rounded(random_tensor({2, keys, kv_heads, 16}));
    const std::string where =
        std::to_string(queries) + " x " + std::to_string(keys) + ", " + std::to_string(kv_heads);
    const Tensor expected = attention(q, k, v, {0.25});
    // bf16: the fused kernel rounds the pattern to bf16 as well, so twice the tolerance.
    EXPECT_LT(error_of(attention(there(q), there(k), there(v), {0.25}), expected), 2 * tolerance())
        << where;
    const Tensor rows = at::arange(queries, at::kLong).expand({2, -1});
    const Tensor scores = attention_score_rows(q, k, {0.25}, rows, {}).softmax(-1);
    const Tensor got =
        attention_score_rows(there(q), there(k), {0.25}, rows.to(at::kCUDA), {}).softmax(-1);
    EXPECT_LT(error_of(got, scores), exact() ? 1e-12 : 1e-5) << where;
  }
}

}  // namespace
}  // namespace headlens
