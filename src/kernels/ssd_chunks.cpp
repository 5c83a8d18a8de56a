// headlens/kernels: the chunked matrix form of the Mamba-2 scan and its gradient, outside autograd.
#include "kernels/ssd_chunks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels/batch_blocks.h"
#include "kernels/segment_sums.h"

namespace headlens {
namespace {

// Sizes of one block: c chunks of Q positions, g groups of r heads, each p wide with n states.
struct Sizes {
  int64_t b, L, h, p, g, r, n, Q, c;
};

Sizes sizes_of_block(const SsdInputs& in, int64_t chunk) {
  Sizes s{};
  s.b = in.x.size(0), s.L = in.x.size(1), s.h = in.x.size(2), s.p = in.x.size(3);
  s.g = in.B.size(2), s.r = s.h / s.g, s.n = in.B.size(3);
  s.Q = std::min(chunk, s.L), s.c = (s.L + s.Q - 1) / s.Q;
  return s;
}

// [b, L, ..] -> [b, c, Q, ..]; a ragged end is filled with zeros, which neither decay nor add.
Tensor in_chunks(const Sizes& s, const Tensor& t) {
  std::vector<int64_t> shape = t.sizes().vec();
  Tensor whole = t;
  if (s.c * s.Q != s.L) {
    shape[1] = s.c * s.Q - s.L;
    whole = at::cat({t, at::zeros(shape, t.options())}, 1);
  }
  shape[1] = s.Q;
  shape.insert(shape.begin() + 1, s.c);
  return whole.reshape(shape);
}

// The layouts of a block. "natural": [b, c, Q, h, p]. "by head": [b, c, h, Q, p].
// "by group": [b, c, g, Q, r * p], which lets all heads of a group share one product with B or C.
Tensor by_head(const Tensor& natural) {
  return natural.transpose(2, 3).contiguous();
}

Tensor by_group(const Sizes& s, const Tensor& natural) {
  return natural.reshape({s.b, s.c, s.Q, s.g, s.r * s.p}).transpose(2, 3);
}

Tensor natural_from_group(const Sizes& s, const Tensor& grouped) {
  return grouped.transpose(2, 3).reshape({s.b, s.c, s.Q, s.h, s.p});
}

// A factor per head and position, [b, c, h, Q], shaped to multiply the natural layout.
Tensor over_natural(const Tensor& per_head) {
  return per_head.transpose(2, 3).unsqueeze(-1);
}

// A factor per head, [b, h], shaped to multiply a state [b, g, n, r * p].
Tensor over_state(const Sizes& s, const Tensor& per_head) {
  return per_head.view({s.b, s.g, 1, s.r, 1})
      .expand({s.b, s.g, 1, s.r, s.p})
      .reshape({s.b, s.g, 1, s.r * s.p});
}

// [b, h, p, n] <-> [b, g, n, r * p]
Tensor state_in(const Sizes& s, const Tensor& state) {
  return state.view({s.b, s.g, s.r * s.p, s.n}).transpose(2, 3);
}
Tensor state_out(const Sizes& s, const Tensor& state) {
  return state.transpose(2, 3).reshape({s.b, s.h, s.p, s.n});
}

// What the forward makes and the backward needs again (arXiv 2405.21060, section 6).
struct ChunkTerms {
  Tensor x;           // natural: dt_j x_j
  Tensor x_by_head;   // [b, c, h, Q, p]
  Tensor B, C;        // [b, c, g, Q, n]
  Tensor decay;       // [b, c, h, Q, Q] exp(sum_{k=j+1..i} log_decay_k) for j <= i, else 0
  Tensor from_start;  // [b, c, h, Q] decay of what came before the chunk, at i
  Tensor to_end;      // [b, c, h, Q] decay of what j wrote, at the chunk's end
  Tensor map;         // [b, c, h, Q, Q] (C_i . B_j) decay_ij
  Tensor added;       // [b, c, g, n, r * p] what a chunk adds to the state
  Tensor entering;    // [b, c, g, n, r * p] state before each chunk
  Tensor last;        // [b, g, n, r * p]
};

void make_decays(const Sizes& s, const SsdInputs& in, ChunkTerms& m) {
  const Tensor log_decay =
      in_chunks(s, in.log_decay).clamp_min(kLogDecayFloor).transpose(2, 3).contiguous();
  m.decay = segment_sums(log_decay).exp_().tril_();
  m.from_start = log_decay.cumsum(-1).exp_();
  m.to_end = m.decay.select(-2, s.Q - 1).contiguous();
}

// The short recurrence over chunks: h_c = (whole decay of c) h_{c-1} + added_c.
void make_entering(const Sizes& s, const SsdInputs& in, ChunkTerms& m) {
  Tensor state = in.state.defined() ? state_in(s, in.state)
                                    : at::zeros({s.b, s.g, s.n, s.r * s.p}, in.x.options());
  const Tensor whole = m.from_start.select(-1, s.Q - 1);  // [b, c, h]
  m.entering = at::empty_like(m.added);
  for (int64_t c = 0; c < s.c; ++c) {
    m.entering.select(1, c).copy_(state);
    state =
        at::addcmul(m.added.select(1, c), over_state(s, whole.select(1, c).contiguous()), state);
  }
  m.last = state;
}

ChunkTerms make_terms(const Sizes& s, const SsdInputs& in) {
  ChunkTerms m;
  make_decays(s, in, m);
  m.x = in_chunks(s, in.dt.defined() ? in.x * in.dt.unsqueeze(-1) : in.x);
  m.x_by_head = by_head(m.x);
  m.B = in_chunks(s, in.B).transpose(2, 3).contiguous();
  m.C = in_chunks(s, in.C).transpose(2, 3).contiguous();
  const Tensor scores = at::matmul(m.C, m.B.transpose(-1, -2));  // [b, c, g, Q, Q]
  m.map = (m.decay.view({s.b, s.c, s.g, s.r, s.Q, s.Q}) * scores.unsqueeze(3))
              .view({s.b, s.c, s.h, s.Q, s.Q});
  m.added = at::matmul(m.B.transpose(-1, -2), by_group(s, m.x * over_natural(m.to_end)));
  make_entering(s, in, m);
  return m;
}

bool anything_enters(const Sizes& s, const SsdInputs& in) {
  return s.c > 1 || in.state.defined();
}

SsdOutputs block_forward(const SsdInputs& in, int64_t chunk) {
  const Sizes s = sizes_of_block(in, chunk);
  const ChunkTerms m = make_terms(s, in);
  Tensor y = at::matmul(m.map, m.x_by_head).transpose(2, 3);  // natural
  if (anything_enters(s, in)) {
    y = at::addcmul(y, natural_from_group(s, at::matmul(m.C, m.entering)),
                    over_natural(m.from_start));
  }
  y = y.reshape({s.b, s.c * s.Q, s.h, s.p}).narrow(1, 0, s.L);
  return {y, state_out(s, m.last)};
}

// Gradients with respect to the chunked quantities, collected term by term.
struct ChunkGrads {
  Tensor x;         // natural
  Tensor B, C;      // [b, c, g, Q, n]
  Tensor log_sum;   // [b, c, h, Q] of the running sum of log_decay inside the chunk
  Tensor log_end;   // [b, c, h] the same at the chunk's last position
  Tensor entering;  // [b, c, g, n, r * p]
  Tensor state;     // [b, g, n, r * p] of the incoming state
};

// y_i += sum_j map_ij x_j
void backward_within(const Sizes& s, const ChunkTerms& m, const Tensor& grad_y, ChunkGrads& d) {
  const Tensor grad_y_by_head = by_head(grad_y);
  const Tensor grad_map = at::matmul(grad_y_by_head, m.x_by_head.transpose(-1, -2));
  d.x = at::matmul(m.map.transpose(-1, -2), grad_y_by_head).transpose(2, 3);
  const Tensor grad_scores =
      (grad_map * m.decay).view({s.b, s.c, s.g, s.r, s.Q, s.Q}).sum(3);  // [b, c, g, Q, Q]
  d.C = at::matmul(grad_scores, m.B);
  d.B = at::matmul(grad_scores.transpose(-1, -2), m.C);
  // The exponent of map_ij is sum_i - sum_j of the running log decay.
  const Tensor grad_exponent = grad_map * m.map;
  d.log_sum = grad_exponent.sum(-1) - grad_exponent.sum(-2);
}

// y_i += exp(running sum_i) C_i . (state entering the chunk)
void backward_entering(const Sizes& s, const ChunkTerms& m, const Tensor& grad_y, ChunkGrads& d) {
  const Tensor decayed = grad_y * over_natural(m.from_start);  // natural
  const Tensor grouped = by_group(s, decayed).contiguous();
  d.C += at::matmul(grouped, m.entering.transpose(-1, -2));
  d.entering = at::matmul(m.C.transpose(-1, -2), grouped);
  const Tensor read = natural_from_group(s, at::matmul(m.C, m.entering));
  d.log_sum += (read * decayed).sum(-1).transpose(2, 3);
}

// The recurrence over chunks, backwards; returns the gradient of what each chunk added.
Tensor backward_recurrence(const Sizes& s, const ChunkTerms& m, const Tensor& grad_state,
                           ChunkGrads& d) {
  Tensor carried = grad_state.defined() ? state_in(s, grad_state) : at::zeros_like(m.last);
  Tensor grad_added = at::empty_like(m.added);
  const Tensor whole = m.from_start.select(-1, s.Q - 1);  // [b, c, h]
  d.log_end = at::empty_like(whole);
  for (int64_t c = s.c - 1; c >= 0; --c) {
    grad_added.select(1, c).copy_(carried);
    carried = carried * over_state(s, whole.select(1, c).contiguous());
    d.log_end.select(1, c).copy_((carried * m.entering.select(1, c))
                                     .view({s.b, s.g, s.n, s.r, s.p})
                                     .sum(at::IntArrayRef{2, 4})
                                     .view({s.b, s.h}));
    if (d.entering.defined()) carried = carried + d.entering.select(1, c);
  }
  d.state = carried;
  return grad_added;
}

// added = sum_j exp(sum_end - sum_j) B_j x_j
void backward_added(const Sizes& s, const ChunkTerms& m, const Tensor& grad_added, ChunkGrads& d) {
  const Tensor decayed_x = m.x * over_natural(m.to_end);  // natural
  d.B += at::matmul(by_group(s, decayed_x), grad_added.transpose(-1, -2));
  const Tensor grad = natural_from_group(s, at::matmul(m.B, grad_added));
  d.x = at::addcmul(d.x, grad, over_natural(m.to_end));
  const Tensor grad_exponent = (grad * decayed_x).sum(-1).transpose(2, 3);  // [b, c, h, Q]
  d.log_sum -= grad_exponent;
  d.log_end += grad_exponent.sum(-1);
}

// [b, c, Q, ..] -> [b, L, ..]
Tensor out_of_chunks(const Sizes& s, const Tensor& chunked) {
  return chunked.flatten(1, 2).narrow(1, 0, s.L);
}

SsdInputs block_backward(const SsdInputs& in, int64_t chunk, const Tensor& grad_y,
                         const Tensor& grad_state) {
  const Sizes s = sizes_of_block(in, chunk);
  const ChunkTerms m = make_terms(s, in);
  ChunkGrads d;
  const Tensor grad_y_chunks = in_chunks(s, grad_y);
  backward_within(s, m, grad_y_chunks, d);
  if (anything_enters(s, in)) backward_entering(s, m, grad_y_chunks, d);
  if (s.c > 1 || in.state.defined() || grad_state.defined()) {
    backward_added(s, m, backward_recurrence(s, m, grad_state, d), d);
    d.log_sum.select(-1, s.Q - 1).add_(d.log_end);
  }
  const Tensor grad_log = d.log_sum.flip({-1}).cumsum(-1).flip({-1});  // [b, c, h, Q]

  SsdInputs grads;
  grads.x = out_of_chunks(s, d.x);
  if (in.dt.defined()) {
    grads.dt = (grads.x * in.x).sum(-1);
    grads.x = grads.x * in.dt.unsqueeze(-1);
  }
  grads.log_decay = out_of_chunks(s, grad_log.transpose(2, 3));
  grads.B = out_of_chunks(s, d.B.transpose(2, 3));
  grads.C = out_of_chunks(s, d.C.transpose(2, 3));
  if (in.state.defined()) grads.state = state_out(s, d.state);
  return grads;
}

SsdInputs narrow(const SsdInputs& in, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(0, first, count) : t; };
  return {part(in.x), part(in.log_decay), part(in.dt), part(in.B), part(in.C), part(in.state)};
}

// Sequences a block takes so that its chunk matrices stay in a core's cache.
int64_t block_size(const SsdInputs& in, int64_t chunk) {
  if (!in.x.is_cpu()) return in.x.size(0);
  const Sizes s = sizes_of_block(in, chunk);
  constexpr int64_t kElements = 1 << 17;
  return std::max<int64_t>(1, kElements / (s.c * s.h * s.Q * s.Q));
}

}  // namespace

SsdOutputs ssd_chunks_forward(const SsdInputs& in, int64_t chunk) {
  const int64_t batch = in.x.size(0);
  SsdOutputs out{at::empty_like(in.x, at::MemoryFormat::Contiguous),
                 at::empty({batch, in.x.size(2), in.x.size(3), in.B.size(3)}, in.x.options())};
  for_batch_blocks(batch, block_size(in, chunk), [&](int64_t first, int64_t count) {
    const SsdOutputs part = block_forward(narrow(in, first, count), chunk);
    out.y.narrow(0, first, count).copy_(part.y);
    out.state.narrow(0, first, count).copy_(part.state);
  });
  return out;
}

SsdInputs ssd_chunks_backward(const SsdInputs& in, int64_t chunk, const Tensor& grad_y,
                              const Tensor& grad_state) {
  const auto like = [](const Tensor& t) {
    return t.defined() ? at::empty_like(t, at::MemoryFormat::Contiguous) : t;
  };
  SsdInputs out{like(in.x), like(in.log_decay), like(in.dt),
                like(in.B), like(in.C),         like(in.state)};
  for_batch_blocks(in.x.size(0), block_size(in, chunk), [&](int64_t first, int64_t count) {
    const SsdInputs to = narrow(out, first, count);
    const SsdInputs part =
        block_backward(narrow(in, first, count), chunk, grad_y.narrow(0, first, count),
                       grad_state.defined() ? grad_state.narrow(0, first, count) : grad_state);
    to.x.copy_(part.x), to.log_decay.copy_(part.log_decay);
    to.B.copy_(part.B), to.C.copy_(part.C);
    if (to.dt.defined()) to.dt.copy_(part.dt);
    if (to.state.defined()) to.state.copy_(part.state);
  });
  return out;
}

}  // namespace headlens
