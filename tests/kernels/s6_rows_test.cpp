// headlens/tests: rows of a Mamba-1 map by the backward recurrence against the closed form.
#include "kernels/s6_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "headlens/kernels/selective_scan.h"
#include "kernels/plain_scans.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::make_s6_case;
using testing::S6Case;

// sum_n C_i[n] exp(A[n] (T_i - T_j)) dt_j B_j[n] in float64, [batch, channel, pos, pos].
Tensor closed_form(const S6Case& c) {
  const Tensor total = c.dt.cumsum(1).transpose(1, 2);  // [batch, channel, pos]
  const Tensor since = (total.unsqueeze(-1) - total.unsqueeze(-2)).tril();
  Tensor map = at::zeros_like(since);
  for (int64_t n = 0; n < c.A.size(1); ++n) {
    const Tensor write_read = c.C.select(2, n).unsqueeze(2) * c.B.select(2, n).unsqueeze(1);
    map = map + (since * c.A.select(1, n).view({-1, 1, 1})).exp() * write_read.unsqueeze(1);
  }
  return (map * c.dt.transpose(1, 2).unsqueeze(2)).tril();
}

TEST(S6Rows, EqualTheClosedForm) {
  for (const int64_t pos : {1, 31, 129}) {
    const S6Case c = make_s6_case(pos, false, 1e-4, 20.0);
    const Tensor rows = at::randint(0, pos, {2, 5}, at::kLong);  // any order, with repeats
    const Tensor dense = closed_form(c);
    const Tensor got = s6_rows(c.dt, c.A, c.B, c.C, rows);
    const S6Case f = c.to(at::kFloat);
    const Tensor single = s6_rows(f.dt, f.A, f.B, f.C, rows);
    for (int64_t b = 0; b < 2; ++b) {
      const Tensor expected = dense[b].index_select(1, rows[b]);
      EXPECT_LT(error_of(got[b], expected), 1e-12) << "positions " << pos;
      // float32: each factor is a product of at most 129 decays, each rounded at 6e-8.
      EXPECT_LT(error_of(single[b], expected), 1e-5) << "positions " << pos;
    }
  }
}

TEST(S6Rows, ServeTheMapOfManyChannels) {
  at::manual_seed(8);
  const int64_t channels = 300, pos = 40;
  S6Case c;
  c.x = testing::random_tensor({3, pos, channels});
  c.dt = testing::random_between(0.01, 1, {3, pos, channels});
  c.A = -testing::random_between(0.5, 4, {channels, 4});
  c.B = testing::random_tensor({3, pos, 4});
  c.C = testing::random_tensor({3, pos, 4});
  const Tensor rows = at::arange(pos, at::kLong).expand({3, pos});
  ASSERT_TRUE(s6_rows_worthwhile(rows, channels, 4));
  const auto plain = testing::plain_s6(c);
  const auto product = [&](const S6Case& in) {
    const Tensor map = selective_scan_map_rows(in.dt, in.A, in.B, in.C, rows, {});
    return at::matmul(map, in.x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2);
  };
  EXPECT_LT(error_of(product(c), plain.y), 1e-12);
  EXPECT_LT(error_of(product(c.to(at::kFloat)), plain.y), 1e-5);
}

}  // namespace
}  // namespace headlens
