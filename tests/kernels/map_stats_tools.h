// headlens/tests: map figures held against those of the rows in float64.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>

#include "headlens/kernels/map_stats.h"
#include "kernels/plain_scans.h"

namespace headlens::testing {

/// Segment ids -1 .. count - 1 of keys, at random or in runs: int64 [copies, pos].
inline Tensor random_segments(int64_t copies, int64_t pos, int64_t count) {
  return at::randint(-1, count, {copies, pos}, at::kLong);
}
inline Tensor runs_of_segments(int64_t pos, int64_t count) {
  return (at::arange(pos, at::kLong) * (count + 1)).floor_divide(pos).unsqueeze(0) - 1;
}

/// The request's tensors on `device`.
inline MapStatsRequest on(MapStatsRequest request, at::Device device) {
  for (Tensor* part : {&request.rows, &request.heads, &request.segments, &request.key_sets}) {
    if (part->defined()) *part = part->to(device);
  }
  return request;
}

/// |M| / row sum, a row without mass 0: of a map [batch, head, row, key].
inline Tensor shares_of(const Tensor& map) {
  return normalized_rows(map.to(at::kCPU, at::kDouble), /*is_softmax=*/false);
}

/// Figures against those of a float64 map whose shares are `p`, [batch, head, row, key]. Keys are
/// judged by the share they have, as two of nearly the same may change places. `set_tolerance`: of
/// mass on offsets and sets, if another.
inline void expect_same_stats(const MapStats& got, const MapStats& expected, const Tensor& p,
                              double tolerance, const std::string& where,
                              double set_tolerance = 0) {
  if (set_tolerance == 0) set_tolerance = tolerance;
  const auto same = [&](const char* name, const Tensor& a, const Tensor& b, double most) {
    ASSERT_EQ(a.defined(), b.defined()) << name << ", " << where;
    if (a.defined()) {
      EXPECT_LT(error_of(a, b), most) << name << ", " << where;
    }
  };
  same("entropy", got.entropy, expected.entropy, tolerance);
  same("row_mass", got.row_mass, expected.row_mass, tolerance);
  same("max", got.max, expected.max, tolerance);
  same("segment_mass", got.segment_mass, expected.segment_mass, tolerance);
  same("offset_mass", got.offset_mass, expected.offset_mass, set_tolerance);
  same("set_mass", got.set_mass, expected.set_mass, set_tolerance);
  same("top_values", got.top_values, expected.top_values, tolerance);
  same("exp of log_mass", got.log_mass.exp(), expected.row_mass, tolerance);
  const Tensor peak = got.argmax.to(at::kCPU).unsqueeze(-1);
  EXPECT_LT(error_of(p.gather(-1, peak).squeeze(-1), expected.max), tolerance)
      << "argmax, " << where;
  if (!got.top_keys.defined()) return;
  const Tensor keys = got.top_keys.to(at::kCPU), none = keys.lt(0);
  EXPECT_TRUE(at::equal(none, expected.top_keys.to(at::kCPU).lt(0))) << "padding, " << where;
  EXPECT_LT(error_of(p.gather(-1, keys.clamp_min(0)).masked_fill(none, 0), expected.top_values),
            tolerance)
      << "top_keys, " << where;
}

/// Two runs of the same work, bit for bit.
inline void expect_equal_stats(const MapStats& a, const MapStats& b) {
  for (const auto field :
       {&MapStats::entropy, &MapStats::row_mass, &MapStats::max, &MapStats::argmax,
        &MapStats::top_values, &MapStats::top_keys, &MapStats::segment_mass, &MapStats::offset_mass,
        &MapStats::set_mass, &MapStats::log_mass}) {
    if ((a.*field).defined()) {
      EXPECT_TRUE(at::equal(a.*field, b.*field));
    }
  }
}

}  // namespace headlens::testing
