// headlens/tests: the state-space recurrences as plain loops over doubles, an independent source.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "headlens/core/dtype.h"

namespace headlens::testing {

/// Largest |a - b|, relative to the largest |b| where that is above 1; any dtypes and devices.
inline double error_of(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  if (a.sizes() != b.sizes()) return INFINITY;
  if (a.numel() == 0) return 0;
  const Tensor x = a.detach().to(at::kCPU, at::kDouble), y = b.detach().to(at::kCPU, at::kDouble);
  if (!x.isfinite().all().item<bool>()) return INFINITY;
  return (x - y).abs().max().item<double>() / std::max(1.0, y.abs().max().item<double>());
}

inline Tensor random_tensor(at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
  return at::randn(shape, at::kDouble).to(dtype);
}

/// Uniform in [low, high).
inline Tensor random_between(double low, double high, at::IntArrayRef shape,
                             at::ScalarType dtype = at::kDouble) {
  return (at::rand(shape, at::kDouble) * (high - low) + low).to(dtype);
}

/// Everything an SSD scan reads; `dt` and `state` may be undefined.
struct SsdCase {
  Tensor x, log_decay, dt, B, C, state;

  SsdCase to(at::ScalarType dtype) const {
    const auto as = [&](const Tensor& t) { return t.defined() ? t.to(dtype) : t; };
    return {as(x), as(log_decay), as(dt), as(B), as(C), as(state)};
  }
  SsdCase part(int64_t first, int64_t count, const Tensor& before) const {
    const auto cut = [&](const Tensor& t) { return t.defined() ? t.narrow(1, first, count) : t; };
    return {cut(x), cut(log_decay), cut(dt), cut(B), cut(C), before};
  }
};

inline SsdCase make_ssd_case(int64_t pos, int64_t heads, int64_t groups, bool with_dt,
                             bool with_state) {
  at::manual_seed(1234);
  const int64_t batch = 2, d_head = 3, d_state = 5;
  SsdCase c;
  c.x = random_tensor({batch, pos, heads, d_head});
  c.dt = random_between(0.01, 1.0, {batch, pos, heads});
  c.log_decay = -c.dt * random_between(0.1, 2.0, {heads});
  if (!with_dt) c.dt = Tensor();
  c.B = random_tensor({batch, pos, groups, d_state});
  c.C = random_tensor({batch, pos, groups, d_state});
  if (with_state) c.state = random_tensor({batch, heads, d_head, d_state});
  return c;
}

struct PlainResult {
  Tensor y, state;
};

/// h_t = exp(log_decay_t) h_{t-1} + dt_t x_t B_t^T; y_t = h_t C_t.
inline PlainResult plain_ssd(const SsdCase& c) {
  const int64_t batch = c.x.size(0), pos = c.x.size(1), heads = c.x.size(2), width = c.x.size(3);
  const int64_t groups = c.B.size(2), states = c.B.size(3);
  Tensor h = c.state.defined() ? c.state.clone().contiguous()
                               : at::zeros({batch, heads, width, states}, at::kDouble);
  Tensor y = at::zeros({batch, pos, heads, width}, at::kDouble);
  auto xa = c.x.accessor<double, 4>();
  auto la = c.log_decay.accessor<double, 3>();
  const Tensor dts = c.dt.defined() ? c.dt : at::ones_like(c.log_decay);
  auto da = dts.accessor<double, 3>();
  auto Ba = c.B.accessor<double, 4>(), Ca = c.C.accessor<double, 4>(), ha = h.accessor<double, 4>(),
       ya = y.accessor<double, 4>();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < pos; ++t) {
      for (int64_t k = 0; k < heads; ++k) {
        const int64_t g = k / (heads / groups);
        for (int64_t p = 0; p < width; ++p) {
          for (int64_t n = 0; n < states; ++n) {
            ha[b][k][p][n] = std::exp(la[b][t][k]) * ha[b][k][p][n] +
                             da[b][t][k] * xa[b][t][k][p] * Ba[b][t][g][n];
            ya[b][t][k][p] += ha[b][k][p][n] * Ca[b][t][g][n];
          }
        }
      }
    }
  }
  return {y, h};
}

/// Everything an S6 scan reads; `state` may be undefined.
struct S6Case {
  Tensor x, dt, A, B, C, state;

  S6Case to(at::ScalarType dtype) const {
    const auto as = [&](const Tensor& t) { return t.defined() ? t.to(dtype) : t; };
    return {as(x), as(dt), as(A), as(B), as(C), as(state)};
  }
  S6Case part(int64_t first, int64_t count, const Tensor& before) const {
    const auto cut = [&](const Tensor& t) { return t.narrow(1, first, count); };
    return {cut(x), cut(dt), A, cut(B), cut(C), before};
  }
};

inline S6Case make_s6_case(int64_t pos, bool with_state, double dt_low = 0.01,
                           double dt_high = 1.0) {
  at::manual_seed(4321);
  const int64_t batch = 2, channels = 6, d_state = 4;
  S6Case c;
  c.x = random_tensor({batch, pos, channels});
  // Even in the logarithm, so that both ends of the range occur.
  c.dt = random_between(std::log(dt_low), std::log(dt_high), {batch, pos, channels}).exp();
  c.A = -random_between(0.5, 4.0, {channels, d_state});
  c.B = random_tensor({batch, pos, d_state});
  c.C = random_tensor({batch, pos, d_state});
  if (with_state) c.state = random_tensor({batch, channels, d_state});
  return c;
}

/// h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t; y_t = C_t . h_t.
inline PlainResult plain_s6(const S6Case& c) {
  const int64_t batch = c.x.size(0), pos = c.x.size(1), channels = c.x.size(2);
  const int64_t states = c.A.size(1);
  Tensor h = c.state.defined() ? c.state.clone().contiguous()
                               : at::zeros({batch, channels, states}, at::kDouble);
  Tensor y = at::zeros({batch, pos, channels}, at::kDouble);
  auto xa = c.x.accessor<double, 3>(), da = c.dt.accessor<double, 3>(),
       Ba = c.B.accessor<double, 3>(), Ca = c.C.accessor<double, 3>(), ha = h.accessor<double, 3>(),
       ya = y.accessor<double, 3>();
  auto Aa = c.A.accessor<double, 2>();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < pos; ++t) {
      for (int64_t d = 0; d < channels; ++d) {
        for (int64_t n = 0; n < states; ++n) {
          ha[b][d][n] = std::exp(da[b][t][d] * Aa[d][n]) * ha[b][d][n] +
                        da[b][t][d] * Ba[b][t][n] * xa[b][t][d];
          ya[b][t][d] += ha[b][d][n] * Ca[b][t][n];
        }
      }
    }
  }
  return {y, h};
}

}  // namespace headlens::testing
