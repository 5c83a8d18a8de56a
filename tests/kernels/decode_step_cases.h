// headlens/tests: one position's attention written out in float64, an independent source.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "headlens/kernels/decode.h"
#include "kernels/plain_scans.h"

namespace headlens::testing {

struct StepCase {
  std::string name;
  int64_t d = 16, heads = 4, kv_heads = 2, room = 40, position = 17, pairs = 8, window = 0;
  double softcap = 0;
  bool norms = false, padded = false;
};

inline const StepCase kStepCases[] = {
    {.name = "base"},
    {.name = "first_position", .position = 0},
    {.name = "last_position", .position = 39},
    {.name = "window", .window = 8, .padded = true},
    {.name = "softcap", .d = 80, .heads = 4, .kv_heads = 4, .pairs = 10, .softcap = 5},
    {.name = "normed",
     .d = 64,
     .heads = 7,
     .kv_heads = 1,
     .room = 700,
     .position = 640,
     .pairs = 32,
     .norms = true},
    {.name = "unturned", .d = 8, .kv_heads = 1, .pairs = 0, .padded = true},
    {.name = "wide",
     .d = 256,
     .heads = 8,
     .kv_heads = 4,
     .room = 300,
     .position = 128,
     .pairs = 128},
    {.name = "odd_width",
     .d = 96,
     .heads = 6,
     .kv_heads = 6,
     .room = 4200,
     .position = 4129,
     .pairs = 48,
     .window = 1000},
    {.name = "llama",
     .d = 128,
     .heads = 32,
     .kv_heads = 8,
     .room = 600,
     .position = 512,
     .pairs = 64,
     .padded = true},
};

/// Everything decode_attention reads, in float64; `batch` rows.
struct StepInputs {
  Tensor q, k, v;
  DecodeCache cache;
  AttentionRule rule;
  DecodeTurn turn;

  template <typename Convert>
  StepInputs to(const Convert& convert) const {
    StepInputs there = *this;
    for (Tensor* x : {&there.q, &there.k, &there.v, &there.cache.k, &there.cache.v,
                      &there.turn.q_norm, &there.turn.k_norm}) {
      *x = convert(*x);
    }
    return there;
  }
};

inline StepInputs make_step(const StepCase& c, int64_t batch) {
  StepInputs in;
  // As a projection of all three leaves them: rows with others between.
  const Tensor all = random_tensor({batch, c.heads + 2 * c.kv_heads, c.d});
  in.q = all.narrow(1, 0, c.heads);
  in.k = all.narrow(1, c.heads, c.kv_heads), in.v = all.narrow(1, c.heads + c.kv_heads, c.kv_heads);
  in.cache.k = random_tensor({batch, c.room, c.kv_heads, c.d});
  in.cache.v = random_tensor({batch, c.room, c.kv_heads, c.d});
  in.cache.position = at::full({1}, c.position, at::kLong);
  in.rule = {1 / std::sqrt(static_cast<double>(c.d)), c.window, c.softcap};
  if (c.padded) in.rule.first = at::arange(batch, at::kLong).clamp_max(c.position) * 3 % 7;
  if (c.norms) in.turn.q_norm = random_tensor({c.d}), in.turn.k_norm = random_tensor({c.d});
  in.turn.eps = 1e-6;
  if (c.pairs > 0) {
    const Tensor place = at::arange(c.room, at::kDouble).unsqueeze(1);
    const Tensor angle = place * (-at::arange(c.pairs, at::kDouble) / 3).exp();
    in.turn.cos = angle.cos().unsqueeze(0), in.turn.sin = angle.sin().unsqueeze(0);
  }
  return in;
}

struct PlainStep {
  Tensor z, pattern, log_mass, k;  // [batch, head, d], [batch, head, key], [batch, head]; the key
};

/// x [head, d] of one row, normed and turned.
inline Tensor plain_turn(Tensor x, const Tensor& norm, const DecodeTurn& turn, int64_t place) {
  if (norm.defined()) x = x / ((x * x).mean(-1, true) + turn.eps).sqrt() * norm;
  if (!turn.cos.defined()) return x;
  const int64_t pairs = turn.cos.size(2);
  const Tensor c = turn.cos[0][place], s = turn.sin[0][place];
  const Tensor a = x.narrow(-1, 0, pairs), b = x.narrow(-1, pairs, pairs);
  return at::cat({a * c - b * s, b * c + a * s, x.slice(-1, 2 * pairs)}, -1);
}

/// All in float64 on the CPU; row by row and head by head.
inline PlainStep plain_step(const StepInputs& in) {
  const int64_t batch = in.q.size(0), heads = in.q.size(1), room = in.cache.k.size(1);
  const int64_t shared = heads / in.k.size(1), position = in.cache.position.item<int64_t>();
  PlainStep out;
  out.z = at::zeros(in.q.sizes(), at::kDouble), out.k = at::zeros(in.k.sizes(), at::kDouble);
  out.pattern = at::zeros({batch, heads, room}, at::kDouble);
  out.log_mass = at::zeros({batch, heads}, at::kDouble);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t first = in.rule.first.defined() ? in.rule.first[b].item<int64_t>() : 0;
    const int64_t place = std::max<int64_t>(0, position - first);
    const Tensor q = plain_turn(in.q[b], in.turn.q_norm, in.turn, place);
    out.k[b] = plain_turn(in.k[b], in.turn.k_norm, in.turn, place);
    int64_t low = first;
    if (in.rule.window > 0) low = std::max(low, position + 1 - in.rule.window);
    for (int64_t h = 0; h < heads; ++h) {
      Tensor keys = in.cache.k[b].select(1, h / shared).clone();
      Tensor values = in.cache.v[b].select(1, h / shared).clone();
      keys[position] = out.k[b][h / shared], values[position] = in.v[b][h / shared];
      Tensor scores = at::mv(keys.slice(0, low, position + 1), q[h]) * in.rule.scale;
      if (in.rule.softcap > 0) scores = (scores / in.rule.softcap).tanh() * in.rule.softcap;
      const Tensor row = scores.softmax(0);
      out.pattern[b][h].slice(0, low, position + 1).copy_(row);
      out.log_mass[b][h] = scores.logsumexp(0);
      out.z[b][h] = at::mv(values.slice(0, low, position + 1).t(), row);
    }
  }
  return out;
}

}  // namespace headlens::testing
