// headlens/tests: figures and rows of Mamba-1 maps on a GPU against the rows in float64.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/core/device.h"
#include "headlens/kernels/device_graph.h"
#include "headlens/kernels/s6_map_stats.h"
#include "headlens/kernels/selective_scan.h"
#include "kernels/map_stats_tools.h"

namespace headlens {
namespace {

using testing::random_between;
using testing::random_tensor;

// Sums of up to four thousand float32 terms of 22 bits, logarithms to 2^-22.
constexpr double kTolerance = 2e-5;

struct Inputs {
  Tensor dt, A, B, C;
};

struct Sizes {
  int64_t batch, pos, channels, d_state;
};

Inputs make_inputs(const Sizes& s, double dt_low = 1e-3, double dt_high = 0.3) {
  Inputs in;
  in.dt = random_between(std::log(dt_low), std::log(dt_high), {s.batch, s.pos, s.channels}).exp();
  in.A = -random_between(0.5, 16, {s.channels, s.d_state});
  in.B = random_tensor({s.batch, s.pos, s.d_state});
  in.C = random_tensor({s.batch, s.pos, s.d_state});
  return in;
}

class S6MapStatsCuda : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override {
    if (!cuda_available()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(18);
  }
  /// What the kernel reads: A in float32, the others in the row's dtype.
  Inputs there(const Inputs& in) const {
    const auto as = [](const Tensor& x) { return x.to(at::kCUDA, GetParam()); };
    return {as(in.dt), in.A.to(at::kCUDA, at::kFloat), as(in.B), as(in.C)};
  }
  /// The same numbers in float64, which never takes our kernels.
  static Inputs wide(const Inputs& in) {
    const auto as = [](const Tensor& x) { return x.to(at::kDouble); };
    return {as(in.dt), as(in.A), as(in.B), as(in.C)};
  }
  static MapStats stats(const Inputs& in, const MapStatsRequest& request) {
    return selective_scan_map_stats(in.dt, in.A, in.B, in.C, testing::on(request, at::kCUDA));
  }
  static Tensor rows(const Inputs& in, const MapStatsRequest& request) {
    Tensor index = request.rows;
    if (!index.defined()) {
      index = at::arange(in.B.size(1), at::kLong).expand({in.B.size(0), -1});
    }
    const Tensor heads = request.heads.defined() ? request.heads.to(at::kCUDA) : request.heads;
    return selective_scan_map_rows(in.dt, in.A, in.B, in.C, index.to(at::kCUDA), heads);
  }
  static void compare(const Inputs& in, const MapStatsRequest& request, const std::string& where,
                      double tolerance = kTolerance) {
    const Inputs exact = wide(in);
    testing::expect_same_stats(stats(in, request), stats(exact, request),
                               testing::shares_of(rows(exact, request)), tolerance, where);
  }
};

INSTANTIATE_TEST_SUITE_P(Types, S6MapStatsCuda,
                         ::testing::Values(at::kFloat, at::kHalf, at::kBFloat16),
                         [](const auto& row) { return std::string(dtype_name(row.param)); });

// Lengths around a strip, a tile and a block; fewer states than a product takes, and more.
TEST_P(S6MapStatsCuda, EveryRow) {
  for (const Sizes& s : {Sizes{2, 1, 3, 4},
                         {2, 31, 5, 16},
                         {1, 32, 2, 1},
                         {2, 129, 7, 4},
                         {1, 500, 9, 16},
                         {1, 70, 4, 20}}) {
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

TEST_P(S6MapStatsCuda, LongRowsOfSmallAndLargeSteps) {
  for (const double dt_high : {1e-3, 0.1, 5.0}) {
    const Inputs in = there(make_inputs({1, 4097, 2, 16}, dt_high / 100, dt_high));
    MapStatsRequest request;
    request.segments = testing::runs_of_segments(4097, 5);
    request.num_segments = 5;
    request.rows = at::tensor({0, 127, 128, 1000, 4095, 4096}, at::kLong).unsqueeze(0);
    MapStats all = selective_scan_map_stats(in.dt, in.A, in.B, in.C,
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

// A step of 40 wipes out the past and must not cost the digits of small steps around it.
TEST_P(S6MapStatsCuda, OneLargeStepAmongSmallOnes) {
  // That key then outweighs all others, and where its sum over the states nearly cancels it keeps
  // 2^-22 of the sum's largest term, not of itself.
  constexpr double kCancelling = 3e-4;
  Inputs in = make_inputs({1, 300, 5, 16}, 1e-4, 1e-2);
  in.dt.slice(1, 20, 300, 61).fill_(40);
  compare(there(in), {}, "every row", kCancelling);
  MapStatsRequest request;
  request.rows = at::tensor({19, 20, 21, 299}, at::kLong).unsqueeze(0);
  compare(there(in), request, "four rows", kCancelling);
}

TEST_P(S6MapStatsCuda, ChosenRowsAndChannels) {
  const Sizes s{2, 150, 40, 8};
  const Inputs in = there(make_inputs(s));
  MapStatsRequest request;
  request.rows = at::tensor({149, 0, 64, 63, 5, 12, 0, 149}, at::kLong).view({2, 4});
  request.heads = at::tensor({37, 0, 11}, at::kLong);
  request.segments = testing::random_segments(1, s.pos, 4);
  request.num_segments = 4;
  request.offsets = {0, 70};
  request.key_sets = at::randint(-1, s.pos, {2, 4, 3, 2}, at::kLong);
  request.top_k = 16;
  compare(in, request, "chosen rows");
  request.rows = request.key_sets = Tensor();
  compare(in, request, "every row of chosen channels");
  request.top_k = 0;
  compare(in, request, "streamed, of chosen channels");
}

TEST_P(S6MapStatsCuda, Zeros) {
  Inputs in = make_inputs({1, 300, 3, 16});
  in.C.slice(1, 100, 200).zero_();
  const MapStats got = stats(there(in), {});
  for (const Tensor& figure : {got.entropy, got.row_mass, got.max, got.argmax.to(at::kFloat)}) {
    EXPECT_EQ(figure.slice(2, 100, 200).abs().max().item<float>(), 0);
  }
  EXPECT_TRUE(got.log_mass.slice(2, 100, 200).isneginf().all().item<bool>());
}

TEST_P(S6MapStatsCuda, SameTwice) {
  const Inputs in = there(make_inputs({2, 333, 4, 16}));
  MapStatsRequest request;
  request.segments = testing::random_segments(1, 333, 6);
  request.num_segments = 6;
  request.offsets = {1};
  testing::expect_equal_stats(stats(in, request), stats(in, request));
  request.top_k = 3;
  testing::expect_equal_stats(stats(in, request), stats(in, request));
}

TEST_P(S6MapStatsCuda, Rows) {
  for (const Sizes& s : {Sizes{1, 1, 3, 4}, {2, 129, 40, 20}, {1, 300, 70, 16}}) {
    const Inputs in = there(make_inputs(s, 1e-3, 2.0));
    for (const bool some : {false, true}) {
      MapStatsRequest request;
      if (some) request.heads = at::tensor({s.channels - 1, int64_t{0}}, at::kLong);
      const Tensor got = rows(in, request), expected = rows(wide(in), request);
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT(testing::error_of(got, expected), 2e-6) << s.pos;  // a few roundings of float32
    }
  }
}

// Nothing waits for the device: streamed figures and those of rows can be recorded and replayed.
TEST_P(S6MapStatsCuda, Recorded) {
  Inputs in = there(make_inputs({1, 200, 4, 16}));
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

TEST_P(S6MapStatsCuda, GradientsTakeTheRows) {
  Inputs in = there(make_inputs({1, 40, 4, 8}));
  in.dt.requires_grad_(true);
  const MapStats got = stats(in, {});
  EXPECT_TRUE(got.entropy.requires_grad());
  got.entropy.sum().backward();
  EXPECT_GT(in.dt.grad().abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace headlens
