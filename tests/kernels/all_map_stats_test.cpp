// headlens/tests: figures of state-space maps against plain loops over the map, on the CPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "headlens/core/error.h"
#include "headlens/kernels/causal_conv1d.h"
#include "headlens/kernels/s6_map_stats.h"
#include "headlens/kernels/selective_scan.h"
#include "headlens/kernels/ssd_map_stats.h"
#include "headlens/kernels/ssd_scan.h"
#include "kernels/map_stats_tools.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::random_tensor;
using testing::S6Case;
using testing::SsdCase;

Tensor every_row(int64_t batch, int64_t pos) {
  return at::arange(pos, at::kLong).expand({batch, pos});
}

// Entropy, mass and share of segment 0 of one row, by hand.
struct PlainFigures {
  double entropy = 0, mass = 0, segment = 0;
};
PlainFigures plain_figures(const Tensor& row, const Tensor& segments) {
  PlainFigures f;
  const auto m = row.accessor<double, 1>();
  const auto ids = segments.accessor<int64_t, 1>();
  for (int64_t j = 0; j < row.size(0); ++j) f.mass += std::abs(m[j]);
  for (int64_t j = 0; j < row.size(0); ++j) {
    const double p = std::abs(m[j]) / f.mass;
    if (p > 0) f.entropy -= p * std::log(p);
    if (ids[j] == 0) f.segment += p;
  }
  return f;
}

void expect_plain(const MapStats& got, const Tensor& map, const Tensor& segments) {
  for (int64_t b = 0; b < map.size(0); ++b) {
    for (int64_t h = 0; h < map.size(1); ++h) {
      for (int64_t i = 0; i < map.size(2); ++i) {
        const PlainFigures f = plain_figures(map[b][h][i], segments[0]);
        EXPECT_NEAR(got.entropy[b][h][i].item<double>(), f.entropy, 1e-12);
        EXPECT_NEAR(got.row_mass[b][h][i].item<double>(), f.mass, 1e-12 * (1 + f.mass));
        EXPECT_NEAR(got.segment_mass[b][h][i][0].item<double>(), f.segment, 1e-12);
      }
    }
  }
}

TEST(AllMapStats, Ssd) {
  at::manual_seed(31);
  const SsdCase c = testing::make_ssd_case(33, 4, 2, true, false);
  MapStatsRequest request;
  request.segments = testing::random_segments(1, 33, 3);
  request.num_segments = 3;
  const Tensor map = ssd_map_rows(c.log_decay, c.dt, c.B, c.C, every_row(2, 33), {});
  expect_plain(ssd_map_stats(c.log_decay, c.dt, c.B, c.C, request), map, request.segments);
}

TEST(AllMapStats, S6) {
  const S6Case c = testing::make_s6_case(33, false);
  MapStatsRequest request;
  request.segments = testing::random_segments(1, 33, 3);
  request.num_segments = 3;
  const Tensor map = selective_scan_map_rows(c.dt, c.A, c.B, c.C, every_row(2, 33), {});
  expect_plain(selective_scan_map_stats(c.dt, c.A, c.B, c.C, request), map, request.segments);
}

TEST(AllMapStats, RefusesWhatDoesNotFit) {
  const SsdCase c = testing::make_ssd_case(9, 4, 2, true, false);
  const auto ask = [&](const MapStatsRequest& request) {
    return ssd_map_stats(c.log_decay, c.dt, c.B, c.C, request);
  };
  MapStatsRequest rows, segments, sets, top, offsets;
  rows.rows = at::zeros({3, 1}, at::kLong);
  segments.segments = at::zeros({1, 8}, at::kLong), segments.num_segments = 1;
  sets.key_sets = at::zeros({2, 8, 1, 1}, at::kLong);
  top.top_k = 17;
  offsets.offsets = {-1};
  for (const MapStatsRequest& request : {rows, segments, sets, top, offsets}) {
    EXPECT_THROW(ask(request), ShapeError);
  }
}

// The block from the convolution's input to the gated output is its map's rows times that input,
// plus what the convolution's bias adds.
TEST(AllMapStats, BlockRowsTimesInputEqualsBlock) {
  const S6Case c = testing::make_s6_case(21, false);
  const int64_t batch = 2, pos = 21, channels = c.A.size(0);
  const Tensor u = random_tensor({batch, pos, channels}), weight = random_tensor({channels, 4});
  const Tensor bias = random_tensor({channels}), D = random_tensor({channels});
  const Tensor gate = random_tensor({batch, pos, channels});
  const Tensor conv = causal_conv1d(u, weight, bias, {}).y, x = at::silu(conv);
  const Tensor y = selective_scan(x, c.dt, c.A, c.B, c.C, {}).y + D * x;

  const Tensor rows = every_row(batch, pos);
  const Tensor map = selective_scan_map_rows(c.dt, c.A, c.B, c.C, rows, {});
  const S6BlockParts parts{conv, weight, gate, D};
  const Tensor block = selective_scan_block_rows(map, rows, {}, parts);
  const auto times = [](const Tensor& m, const Tensor& v) {
    return at::matmul(m, v.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2);
  };
  const Tensor of_bias = times(map, conv.sigmoid() * bias) + D * conv.sigmoid() * bias;
  EXPECT_LT(error_of(times(block, u) + at::silu(gate) * of_bias, y * at::silu(gate)), 1e-12);

  const Tensor some = at::tensor({3, 0}, at::kLong),
               last = at::full({batch, 1}, pos - 1, at::kLong);
  const Tensor part = selective_scan_map_rows(c.dt, c.A, c.B, c.C, last, some);
  EXPECT_LT(error_of(selective_scan_block_rows(part, last, some, parts),
                     block.index_select(1, some).narrow(2, pos - 1, 1)),
            1e-14);
}

}  // namespace
}  // namespace headlens
