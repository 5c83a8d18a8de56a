// headlens/tests: figures and rows of Mamba-2 maps on a GPU against the rows in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "headlens/kernels/device_graph.h"
#include "headlens/kernels/ssd_map_stats.h"
#include "headlens/kernels/ssd_scan.h"
#include "kernels/map_stats_tools.h"

namespace headlens {
namespace {

using testing::random_between;
using testing::random_tensor;

// Sums of up to four thousand float32 terms, logarithms to 2^-22, C.B to 2^-23 of |C| |B|.
constexpr double kTolerance = 2e-5;
// Sets and offsets have a product of their own, the mass one by the matrix units: where C.B nearly
// cancels in a row of one key, so much of it is left.
constexpr double kSetTolerance = 2e-4;

struct Sizes {
  int64_t batch, pos, heads, groups, d_state;
};
struct Inputs {
  Tensor log_decay, dt, B, C;
};

Inputs make_inputs(const Sizes& s, double dt_low = 1e-3, double dt_high = 0.3) {
  Inputs in;
  in.dt = random_between(std::log(dt_low), std::log(dt_high), {s.batch, s.pos, s.heads}).exp();
  in.log_decay = -in.dt * random_between(0.5, 16, {s.heads});
  in.B = random_tensor({s.batch, s.pos, s.groups, s.d_state});
  in.C = random_tensor({s.batch, s.pos, s.groups, s.d_state});
  return in;
}

class SsdMapStatsCuda : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(17);
  }
  /// What the kernel reads: decays and steps in float32, B and C in the row's dtype.
  Inputs there(const Inputs& in) const {
    const auto in_float = [](const Tensor& x) {
      return x.defined() ? x.to(at::kCUDA, at::kFloat) : x;
    };
    return {in_float(in.log_decay), in_float(in.dt), in.B.to(at::kCUDA, GetParam()),
            in.C.to(at::kCUDA, GetParam())};
  }
  /// The same numbers in float64, which never takes our kernels.
  static Inputs wide(const Inputs& in) {
    const auto as = [](const Tensor& x) { return x.defined() ? x.to(at::kDouble) : x; };
    return {as(in.log_decay), as(in.dt), as(in.B), as(in.C)};
  }
  static MapStats stats(const Inputs& in, const MapStatsRequest& request) {
    return ssd_map_stats(in.log_decay, in.dt, in.B, in.C, testing::on(request, at::kCUDA));
  }
  static Tensor rows(const Inputs& in, const MapStatsRequest& request) {
    Tensor index = request.rows;
    if (!index.defined()) {
      index = at::arange(in.B.size(1), at::kLong).expand({in.B.size(0), -1});
    }
    const Tensor heads = request.heads.defined() ? request.heads.to(at::kCUDA) : request.heads;
    return ssd_map_rows(in.log_decay, in.dt, in.B, in.C, index.to(at::kCUDA), heads);
  }
  static void compare(const Inputs& in, const MapStatsRequest& request, const std::string& where) {
    const Inputs exact = wide(in);
    testing::expect_same_stats(stats(in, request), stats(exact, request),
                               testing::shares_of(rows(exact, request)), kTolerance, where,
                               kSetTolerance);
  }
};

INSTANTIATE_TEST_SUITE_P(Types, SsdMapStatsCuda,
                         ::testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                         [](const auto& row) { return std::string(dtype_name(row.param)); });

// Lengths around a tile, heads that fill no eight, one head a group, states that no 16
// divides or that leave no room; few blocks and many.
TEST_P(SsdMapStatsCuda, EveryRow) {
  for (const Sizes& s : {Sizes{2, 1, 4, 2, 5},
                         {2, 31, 8, 1, 16},
                         {1, 64, 2, 1, 128},
                         {2, 129, 4, 4, 64},
                         {1, 300, 96, 3, 40},
                         {10, 300, 128, 1, 32},
                         {1, 900, 64, 1, 250},
                         {1, 70, 3, 1, 300}}) {
    const Inputs in = there(make_inputs(s));
    MapStatsRequest request;
    request.segments = testing::random_segments(s.batch, s.pos, 7);
    request.num_segments = 7;
    request.offsets = {0, 1, 5, 200};
    request.key_sets = at::randint(-1, s.pos, {s.batch, s.pos, 2, 3}, at::kLong);
    compare(in, request, std::to_string(s.pos) + " positions");
    compare(in, {}, std::to_string(s.pos) + " positions, nothing else");
  }
}

TEST_P(SsdMapStatsCuda, LongRowsOfSlowAndFastDecays) {
  for (const double dt_high : {1e-3, 0.1, 5.0}) {
    const Inputs in = there(make_inputs({1, 4097, 8, 1, 16}, dt_high / 100, dt_high));
    MapStatsRequest request;
    request.segments = testing::runs_of_segments(4097, 5);
    request.num_segments = 5;
    request.rows = at::tensor({0, 63, 64, 1000, 4095, 4096}, at::kLong).unsqueeze(0);
    MapStats all = ssd_map_stats(in.log_decay, in.dt, in.B, in.C,
                                 testing::on({{}, {}, request.segments, 5}, at::kCUDA));
    const Tensor index = request.rows.to(at::kCUDA);
    for (const auto field : {&MapStats::entropy, &MapStats::row_mass, &MapStats::max,
                             &MapStats::argmax, &MapStats::segment_mass, &MapStats::log_mass}) {
      all.*field = (all.*field).index_select(2, index.squeeze(0));
    }
    const Inputs exact = wide(in);
    testing::expect_same_stats(all, stats(exact, request), testing::shares_of(rows(exact, request)),
                               kTolerance, "dt up to " + std::to_string(dt_high));
  }
}

// Decays that wipe out the past must not cost the digits of the small sums around them.
TEST_P(SsdMapStatsCuda, Resets) {
  for (const double reset : {-50.0, -2e4}) {
    Inputs in = make_inputs({1, 300, 32, 1, 64}, 1e-3, 0.1);
    in.log_decay.slice(1, 20, 300, 37).fill_(reset);
    compare(there(in), {}, std::to_string(reset));
  }
}

TEST_P(SsdMapStatsCuda, WithoutSteps) {
  Inputs in = make_inputs({2, 200, 16, 2, 24});
  in.dt = Tensor();
  compare(there(in), {}, "every row");
  MapStatsRequest request;
  request.rows = at::tensor({199, 3}, at::kLong).expand({2, -1});
  compare(there(in), request, "two rows");
}

TEST_P(SsdMapStatsCuda, ChosenRowsAndHeads) {
  const Sizes s{2, 150, 12, 3, 20};
  const Inputs in = there(make_inputs(s));
  MapStatsRequest request;
  request.rows = at::tensor({149, 0, 64, 63, 5, 12, 0, 149}, at::kLong).view({2, 4});
  request.heads = at::tensor({7, 0, 11}, at::kLong);
  request.segments = testing::random_segments(1, s.pos, 4);
  request.num_segments = 4;
  request.offsets = {0, 70};
  request.key_sets = at::randint(-1, s.pos, {2, 4, 3, 2}, at::kLong);
  request.top_k = 9;
  compare(in, request, "chosen rows");
  request.rows = request.key_sets = Tensor();
  compare(in, request, "every row of chosen heads");
  request.top_k = 0;
  compare(in, request, "streamed, of chosen heads");
}

TEST_P(SsdMapStatsCuda, ZerosAndTies) {
  const int64_t pos = 300;
  Inputs in = make_inputs({1, pos, 32, 1, 16});
  in.C.slice(1, 100, 200).zero_();
  MapStats got = stats(there(in), {});
  for (const Tensor& figure : {got.entropy, got.row_mass, got.max, got.argmax.to(at::kFloat)}) {
    EXPECT_EQ(figure.slice(2, 100, 200).abs().max().item<float>(), 0);
  }
  EXPECT_TRUE(got.log_mass.slice(2, 100, 200).isneginf().all().item<bool>());

  in.C.fill_(1), in.B.fill_(1), in.dt.fill_(0.5), in.log_decay.zero_();
  got = stats(there(in), {});
  EXPECT_EQ(got.argmax.max().item<int64_t>(), 0);  // all keys are equal: the first
  const Tensor keys = at::arange(1, pos + 1, at::kDouble).expand({1, 32, pos});
  EXPECT_LT(testing::error_of(got.entropy, keys.log()), kTolerance);
  EXPECT_LT(testing::error_of(got.row_mass, keys * 8), kTolerance);
}

TEST_P(SsdMapStatsCuda, SameTwice) {
  const Inputs in = there(make_inputs({2, 333, 40, 1, 32}));
  MapStatsRequest request;
  request.segments = testing::random_segments(1, 333, 6);
  request.num_segments = 6;
  request.offsets = {1};
  testing::expect_equal_stats(stats(in, request), stats(in, request));
  request.top_k = 3;
  testing::expect_equal_stats(stats(in, request), stats(in, request));
}

TEST_P(SsdMapStatsCuda, Rows) {
  for (const Sizes& s : {Sizes{1, 1, 3, 1, 4}, {2, 129, 40, 2, 20}, {1, 300, 8, 8, 64}}) {
    const Inputs in = there(make_inputs(s, 1e-3, 2.0));
    for (const bool some : {false, true}) {
      MapStatsRequest request;
      if (some) request.heads = at::tensor({s.heads - 1, int64_t{0}}, at::kLong);
      const Tensor got = rows(in, request), expected = rows(wide(in), request);
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT(testing::error_of(got, expected), 2e-6) << s.pos;  // a few roundings of float32
    }
  }
}

// Nothing waits for the device: streamed figures and those of rows can be recorded and replayed.
TEST_P(SsdMapStatsCuda, Recorded) {
  Inputs in = there(make_inputs({1, 200, 16, 1, 16}));
  MapStatsRequest request;
  request.segments = testing::random_segments(1, 200, 3);
  request.num_segments = 3;
  request.offsets = {1};
  for (const int64_t top_k : {0, 2}) {
    request.top_k = top_k;
    const MapStatsRequest asked = testing::on(request, at::kCUDA);
    MapStats got = stats(in, asked);
    const auto graph = DeviceGraph::record(in.dt.device(), [&] { got = stats(in, asked); });
    in.dt.mul_(0.5);
    graph->replay();
    testing::expect_equal_stats(got, stats(in, asked));
  }
}

TEST_P(SsdMapStatsCuda, GradientsTakeTheRows) {
  Inputs in = there(make_inputs({1, 40, 4, 1, 8}));
  in.dt.requires_grad_(true);
  const MapStats got = stats(in, {});
  EXPECT_TRUE(got.entropy.requires_grad());
  got.entropy.sum().backward();
  EXPECT_GT(in.dt.grad().abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace headlens
