// headlens/kernels: the Mamba-1 scan as a loop over positions and its gradient, outside autograd.
#include "kernels/s6_loop.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/batch_blocks.h"

namespace headlens {
namespace {

// A few large in-place operations a position on a state that fits the cache beat a log-depth scan,
// whose passes go through memory. Where launches cost more than memory (CUDA), the sequence is cut
// into pieces that advance side by side: once to see what each leaves, once with what enters it.
//
// States are [batch, d_state, channel] inside, so that the innermost loop runs over channels.

// Positions between saved states; what the backward makes again at a time.
constexpr int64_t kSaveEvery = 8;

// The problem with `pieces` x batch as its batch and `length` positions; u = dt x.
struct Loop {
  int64_t batch, pieces, pos, length, channels, d_state;
  Tensor dt, u;  // [batch * pieces, length, channel]
  Tensor A;      // [d_state, channel]
  Tensor B, C;   // [batch * pieces, length, d_state]
  int64_t saves() const { return (length + kSaveEvery - 1) / kSaveEvery; }
};

// [batch, pos, ..] -> [batch * pieces, length, ..]; zeros at a ragged end neither decay nor add.
Tensor in_pieces(const Loop& l, const Tensor& t) {
  const int64_t missing = l.pieces * l.length - l.pos;
  Tensor whole = t;
  if (missing > 0) {
    whole = at::cat({t, at::zeros({l.batch, missing, t.size(2)}, t.options())}, 1);
  }
  return whole.reshape({l.batch * l.pieces, l.length, t.size(2)});
}

Tensor out_of_pieces(const Loop& l, const Tensor& t) {
  return t.reshape({l.batch, l.pieces * l.length, t.size(2)}).narrow(1, 0, l.pos);
}

Loop loop_sizes(const S6Inputs& in, int64_t piece) {
  Loop l{};
  l.batch = in.x.size(0), l.pos = in.x.size(1), l.channels = in.x.size(2);
  l.d_state = in.A.size(1);
  l.length = std::min(piece, l.pos), l.pieces = (l.pos + l.length - 1) / l.length;
  return l;
}

Loop make_loop(const S6Inputs& in, int64_t piece) {
  Loop l = loop_sizes(in, piece);
  l.dt = in_pieces(l, in.dt), l.u = in_pieces(l, in.dt * in.x);
  l.A = in.A.t().contiguous();
  l.B = in_pieces(l, in.B), l.C = in_pieces(l, in.C);
  return l;
}

Tensor new_states(const Loop& l) {
  return at::zeros({l.batch * l.pieces, l.d_state, l.channels}, l.dt.options());
}

// Position t of [.., length, width] as a row [.., 1, width] or a column [.., width, 1].
Tensor row(const Tensor& t, int64_t i) {
  return t.narrow(1, i, 1);
}
Tensor column(const Tensor& t, int64_t i) {
  return t.select(1, i).unsqueeze(2);
}

// out = exp(dt_t A)
void decay_at(const Loop& l, int64_t t, Tensor& out) {
  at::mul_out(out, row(l.dt, t), l.A);
  out.exp_();
}

// Advances h over all positions. Writes y [length, batch * pieces, 1, channel] and the states
// before every kSaveEvery-th position where these are defined.
void advance(const Loop& l, Tensor& h, const Tensor& y, const Tensor& saved) {
  Tensor decay = at::empty_like(h);
  for (int64_t t = 0; t < l.length; ++t) {
    if (saved.defined() && t % kSaveEvery == 0) saved.select(1, t / kSaveEvery).copy_(h);
    decay_at(l, t, decay);
    h.mul_(decay).addcmul_(column(l.B, t), row(l.u, t));
    if (!y.defined()) continue;
    Tensor y_t = y.select(0, t);
    at::bmm_out(y_t, row(l.C, t), h);
  }
}

// [batch * pieces, ..] <-> [batch, pieces, ..]
Tensor by_piece(const Loop& l, const Tensor& t) {
  return t.view({l.batch, l.pieces, l.d_state, l.channels});
}

Tensor piece_decay(const Loop& l) {
  return (l.dt.sum(1, /*keepdim=*/true) * l.A).exp();
}

// States entering each piece: h [batch, d_state, channel] is what enters the first.
Tensor entering_states(const Loop& l, const Tensor& first) {
  Tensor entering = new_states(l);
  by_piece(l, entering).select(1, 0).copy_(first);
  if (l.pieces == 1) return entering;
  Tensor left = new_states(l);
  advance(l, left, {}, {});
  const Tensor decay = by_piece(l, piece_decay(l)), left_pieces = by_piece(l, left);
  const Tensor pieces = by_piece(l, entering);
  for (int64_t p = 1; p < l.pieces; ++p) {
    pieces.select(1, p).copy_(
        at::addcmul(left_pieces.select(1, p - 1), decay.select(1, p - 1), pieces.select(1, p - 1)));
  }
  return entering;
}

// Fills `to`, whose tensors are this block's part of the whole outputs.
void block_forward(const S6Inputs& in, int64_t piece, const S6Outputs& to) {
  const Loop l = make_loop(in, piece);
  const int64_t rows = l.batch * l.pieces;
  Tensor h = entering_states(
      l, in.state.defined() ? in.state.transpose(1, 2) : at::zeros({1, 1, 1}, in.x.options()));
  const Tensor y = at::empty({l.length, rows, 1, l.channels}, in.x.options());
  Tensor saved = to.saved;
  if (saved.defined()) saved = saved.view({rows, l.saves(), l.d_state, l.channels});
  advance(l, h, y, saved);
  to.y.copy_(out_of_pieces(l, y.squeeze(2).transpose(0, 1)));
  to.state.copy_(by_piece(l, h).select(1, l.pieces - 1).transpose(1, 2));
}

// g_t = C_t grad_y_t + exp(dt_{t+1} A) g_{t+1}, down to the gradient of each piece's first state.
Tensor gradients_entering(const Loop& l, const Tensor& grad_y, const Tensor& last) {
  Tensor entering = new_states(l);
  const Tensor pieces = by_piece(l, entering);
  if (last.defined()) pieces.select(1, l.pieces - 1).copy_(last.transpose(1, 2));
  if (l.pieces == 1) return entering;
  Tensor g = new_states(l), decay = at::empty_like(g);
  for (int64_t t = l.length - 1; t >= 0; --t) {
    g.addcmul_(column(l.C, t), row(grad_y, t));
    decay_at(l, t, decay);
    g.mul_(decay);
  }
  const Tensor whole = by_piece(l, piece_decay(l)), left = by_piece(l, g);
  for (int64_t p = l.pieces - 2; p >= 0; --p) {
    pieces.select(1, p).copy_(
        at::addcmul(left.select(1, p + 1), whole.select(1, p + 1), pieces.select(1, p + 1)));
  }
  return entering;
}

// What the backward fills, position by position; leading dimension `length`, as bmm wants it.
struct LoopGrads {
  Tensor dt, u;  // [length, batch * pieces, 1, channel]
  Tensor B, C;   // [length, batch * pieces, d_state, 1]
  Tensor A;      // [batch * pieces, d_state, channel]
};

LoopGrads new_grads(const Loop& l) {
  const int64_t rows = l.batch * l.pieces;
  const auto make = [&](int64_t a, int64_t b) {
    return at::empty({l.length, rows, a, b}, l.dt.options());
  };
  return {make(1, l.channels), make(1, l.channels), make(l.d_state, 1), make(l.d_state, 1),
          new_states(l)};
}

// One position backwards. g: gradient of h_t from later positions, becomes that of h_{t-1}.
void step_back(const Loop& l, int64_t t, const Tensor& grad_y, const Tensor& before,
               const Tensor& after, const Tensor& decay, Tensor& g, Tensor& scratch, LoopGrads& d) {
  g.addcmul_(column(l.C, t), row(grad_y, t));
  Tensor dC = d.C.select(0, t), dB = d.B.select(0, t), du = d.u.select(0, t);
  at::bmm_out(dC, after, row(grad_y, t).transpose(1, 2));
  at::bmm_out(dB, g, row(l.u, t).transpose(1, 2));
  at::bmm_out(du, row(l.B, t), g);
  g.mul_(decay);
  at::mul_out(scratch, g, before);  // gradient of the exponent dt_t A
  d.A.addcmul_(scratch, row(l.dt, t));
  scratch.mul_(l.A);
  Tensor ddt = d.dt.select(0, t);
  at::sum_out(ddt, scratch, 1, /*keepdim=*/true);
}

void run_back(const Loop& l, const Tensor& grad_y, const Tensor& saved, Tensor& g, LoopGrads& d) {
  std::vector<Tensor> states(kSaveEvery + 1), decays(kSaveEvery);
  for (Tensor& t : states) t = at::empty_like(g);
  for (Tensor& t : decays) t = at::empty_like(g);
  Tensor scratch = at::empty_like(g);
  for (int64_t block = l.saves() - 1; block >= 0; --block) {
    const int64_t first = block * kSaveEvery, count = std::min(kSaveEvery, l.length - first);
    states[0].copy_(saved.select(1, block));
    for (int64_t i = 0; i < count; ++i) {
      decay_at(l, first + i, decays[i]);
      at::mul_out(states[i + 1], states[i], decays[i]);
      states[i + 1].addcmul_(column(l.B, first + i), row(l.u, first + i));
    }
    for (int64_t i = count - 1; i >= 0; --i) {
      step_back(l, first + i, grad_y, states[i], states[i + 1], decays[i], g, scratch, d);
    }
  }
}

// [length, batch * pieces, a, b] with a or b 1 -> [batch, pos, a * b]
Tensor positions_last(const Loop& l, const Tensor& t) {
  return out_of_pieces(l, t.flatten(2).transpose(0, 1));
}

S6Inputs block_backward(const S6Inputs& in, int64_t piece, const Tensor& saved,
                        const Tensor& grad_y, const Tensor& grad_state) {
  const Loop l = make_loop(in, piece);
  const Tensor grad = in_pieces(l, grad_y);
  Tensor g = gradients_entering(l, grad, grad_state);
  LoopGrads d = new_grads(l);
  run_back(l, grad, saved.view({l.batch * l.pieces, l.saves(), l.d_state, l.channels}), g, d);
  const Tensor du = positions_last(l, d.u);
  S6Inputs out;
  out.x = du * in.dt;
  out.dt = at::addcmul(positions_last(l, d.dt), du, in.x);
  out.A = d.A.sum(0).t();
  out.B = positions_last(l, d.B);
  out.C = positions_last(l, d.C);
  if (in.state.defined()) out.state = by_piece(l, g).select(1, 0).transpose(1, 2);
  return out;
}

S6Inputs narrow(const S6Inputs& in, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(0, first, count) : t; };
  return {part(in.x), part(in.dt), in.A, part(in.B), part(in.C), part(in.state)};
}

// As many blocks as threads: smaller ones would be all overhead.
int64_t block_size(const S6Inputs& in) {
  const int64_t batch = in.x.size(0), threads = in.x.is_cpu() ? at::get_num_threads() : 1;
  return std::max<int64_t>(1, (batch + threads - 1) / threads);
}

Tensor fresh_like(const Tensor& t) {
  return t.defined() ? at::empty_like(t, at::MemoryFormat::Contiguous) : t;
}

}  // namespace

int64_t s6_piece(const Tensor& x) {
  const int64_t pos = x.size(1);
  if (x.is_cpu() || pos <= 32) return pos;
  // Launches go with 2 piece + pos / piece, which is least here.
  return std::max<int64_t>(16, std::lround(std::sqrt(static_cast<double>(pos) / 2)));
}

S6Outputs s6_forward(const S6Inputs& in, int64_t piece, bool save) {
  const int64_t batch = in.x.size(0), channels = in.x.size(2), d_state = in.A.size(1);
  S6Outputs out;
  out.y = fresh_like(in.x);
  out.state = at::empty({batch, channels, d_state}, in.x.options());
  if (save) {
    const Loop l = loop_sizes(in, piece);
    out.saved = at::empty({batch, l.pieces * l.saves(), d_state, channels}, in.x.options());
  }
  for_batch_blocks(batch, block_size(in), [&](int64_t first, int64_t count) {
    const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(0, first, count) : t; };
    block_forward(narrow(in, first, count), piece, {part(out.y), part(out.state), part(out.saved)});
  });
  return out;
}

S6Inputs s6_backward(const S6Inputs& in, int64_t piece, const Tensor& saved, const Tensor& grad_y,
                     const Tensor& grad_state) {
  const int64_t batch = in.x.size(0), block = block_size(in);
  S6Inputs out{fresh_like(in.x), fresh_like(in.dt), {},
               fresh_like(in.B), fresh_like(in.C),  fresh_like(in.state)};
  // A's gradient block by block, added up in a fixed order afterwards.
  const Tensor grad_A =
      at::zeros({(batch + block - 1) / block, in.A.size(0), in.A.size(1)}, in.A.options());
  for_batch_blocks(batch, block, [&](int64_t first, int64_t count) {
    const S6Inputs to = narrow(out, first, count);
    const S6Inputs part =
        block_backward(narrow(in, first, count), piece, saved.narrow(0, first, count),
                       grad_y.narrow(0, first, count),
                       grad_state.defined() ? grad_state.narrow(0, first, count) : grad_state);
    to.x.copy_(part.x), to.dt.copy_(part.dt), to.B.copy_(part.B), to.C.copy_(part.C);
    if (to.state.defined()) to.state.copy_(part.state);
    grad_A.select(0, first / block).copy_(part.A);
  });
  out.A = grad_A.sum(0);
  return out;
}

}  // namespace headlens
