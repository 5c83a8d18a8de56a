// headlens/tests: the Mamba-1 loop cut into pieces, as it runs where launches are dear.
#include "kernels/s6_loop.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/plain_scans.h"

namespace headlens {
namespace {

using testing::error_of;
using testing::make_s6_case;
using testing::S6Case;

class S6Loop : public ::testing::TestWithParam<std::tuple<int64_t, bool>> {};

INSTANTIATE_TEST_SUITE_P(Pieces, S6Loop,
                         ::testing::Combine(::testing::Values(1, 5, 8, 13, 36), ::testing::Bool()));

TEST_P(S6Loop, PiecesEqualPlainLoops) {
  const auto [piece, with_state] = GetParam();
  const S6Case c = make_s6_case(37, with_state, 1e-3, 5.0);
  const auto plain = testing::plain_s6(c);
  const S6Outputs got = s6_forward({c.x, c.dt, c.A, c.B, c.C, c.state}, piece, /*save=*/false);
  EXPECT_LT(error_of(got.y, plain.y), 1e-12);
  EXPECT_LT(error_of(got.state, plain.state), 1e-12);
  EXPECT_FALSE(got.saved.defined());
}

TEST_P(S6Loop, GradientsOfPiecesEqualThoseOfOneLoop) {
  const auto [piece, with_state] = GetParam();
  const S6Case c = make_s6_case(37, with_state, 1e-3, 5.0);
  const S6Inputs in{c.x, c.dt, c.A, c.B, c.C, c.state};
  const Tensor grad_y = testing::random_tensor(c.x.sizes());
  const Tensor grad_state = testing::random_tensor({2, 6, 4});
  const auto backward = [&](int64_t length) {
    return s6_backward(in, length, s6_forward(in, length, /*save=*/true).saved, grad_y, grad_state);
  };
  const S6Inputs got = backward(piece), whole = backward(37);
  EXPECT_LT(error_of(got.x, whole.x), 1e-12);
  EXPECT_LT(error_of(got.dt, whole.dt), 1e-12);
  EXPECT_LT(error_of(got.A, whole.A), 1e-12);
  EXPECT_LT(error_of(got.B, whole.B), 1e-12);
  EXPECT_LT(error_of(got.C, whole.C), 1e-12);
  ASSERT_EQ(got.state.defined(), with_state);
  if (with_state) {
    EXPECT_LT(error_of(got.state, whole.state), 1e-12);
  }
}

}  // namespace
}  // namespace headlens
