// headlens/kernels: the operations of one decoding step over preallocated caches.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "headlens/kernels/attention.h"
#include "headlens/kernels/kinds.h"

namespace headlens {

// Every operation here takes one position of each row of the batch, reads the position it is at
// from the device, and writes into tensors it is given: a recorded step serves all positions. No
// gradients. float32, float16 and bfloat16 on CUDA run our own kernels; all else runs LibTorch's.

/// act(norm(x) W^T + b), the rows of up to three matrices one after another; where `gated`,
/// act(gate) * up of exactly two.
struct DecodeLinear {
  std::vector<at::Tensor> weights{};       ///< [rows, in] each
  std::vector<at::Tensor> biases{};        ///< [rows] each or undefined; empty: none
  at::Tensor norm_weight{};                ///< [in]: an RMS norm of x first; undefined: none
  double eps = 0;                          ///< of the norm
  bool plus_one = false;                   ///< the norm multiplies by 1 + weight
  bool gated = false;                      ///< two matrices, act(gate) * up
  std::optional<Activation> activation{};  ///< absent: none

  int64_t width() const;  ///< of the result
};

/// y = linear(x) (+ residual). x [batch, in]; residual [batch, width] or undefined, may be y
/// itself; y [batch, width]; all contiguous and of the weights' dtype. `overlap`: what is launched
/// next is another decode_linear, which may read its weights while this one works; not for two in a
/// row. ShapeError.
void decode_linear(const at::Tensor& x, const DecodeLinear& linear, const at::Tensor& residual,
                   const at::Tensor& y, bool overlap = false);

/// Keys and values of the positions so far, with room for more.
struct DecodeCache {
  at::Tensor k;         ///< [batch, max_position, kv_head, d_head], contiguous
  at::Tensor v;         ///< the same
  at::Tensor position;  ///< int64 [1]: the index of this step's position, below max_position
};

/// What q and k pass before they meet. Undefined: nothing.
struct DecodeTurn {
  at::Tensor q_norm{};  ///< [d_head]: RMS norm over each head of q
  at::Tensor k_norm{};  ///< [d_head]: the same of k
  double eps = 0;       ///< of both norms
  at::Tensor cos{};     ///< [batch or 1, place, pair]; a place is counted from `rule.first`
  at::Tensor sin{};     ///< the same
};

/// Scratch of decode_attention, and what decode_rows reads afterwards.
struct DecodeScratch {
  at::Tensor partial{};   ///< made when it is first needed
  at::Tensor tickets{};   ///< likewise; they stay zero
  at::Tensor q_turned{};  ///< [batch, head, d_head]: q as the scores had it; if defined, set
  at::Tensor log_mass{};  ///< float32 [batch, head]: logsumexp of the scores; likewise
};

/// Puts k and v [batch, kv_head, d_head] of this position into the cache and attends to all that is
/// there by the rule: q [batch, head, d_head] -> z [batch, head, d_head]. The last two dimensions
/// of q, k and v are contiguous. ShapeError.
at::Tensor decode_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const DecodeCache& cache, const AttentionRule& rule,
                            const DecodeTurn& turn, DecodeScratch& scratch);

/// The row of the pattern that decode_attention has just applied, for chosen heads (int64 [n]):
/// rows[batch, n, max_position], 0 where no key is seen. `q` as it was turned; `log_mass` from the
/// scratch, or undefined to have it computed.
void decode_rows(const at::Tensor& q, const DecodeCache& cache, const AttentionRule& rule,
                 const at::Tensor& log_mass, const at::Tensor& heads, const at::Tensor& rows);

/// out [batch, width] = table[ids] * scale; ids int64 [batch], all within the table.
void decode_embed(const at::Tensor& table, const at::Tensor& ids, double scale,
                  const at::Tensor& out);

/// The step's end: ids[b] = chosen[b, position + 1] = the first largest of logits[b], then
/// position += 1. logits [batch, vocab]; ids [batch]; chosen [batch, more than position + 1];
/// ticket int32 [1], zero.
void decode_pick(const at::Tensor& logits, const at::Tensor& ids, const at::Tensor& chosen,
                 const at::Tensor& position, const at::Tensor& ticket);

}  // namespace headlens
