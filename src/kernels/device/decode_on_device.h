// headlens/kernels: the operations of a decoding step on a device, after the tensors were checked.
#pragma once

#include "headlens/core/dtype.h"
#include "headlens/kernels/decode.h"

namespace headlens {

/// Whether the kernels take these: 16-byte rows on 16 bytes, `in` not too wide.
bool decode_linear_fits(const Tensor& x, const DecodeLinear& linear);
void decode_linear_on_device(const Tensor& x, const DecodeLinear& linear, const Tensor& residual,
                             const Tensor& y, bool overlap);

/// Whether the kernels take heads of this width.
bool decode_attention_fits(const DecodeCache& cache, const DecodeTurn& turn);
Tensor decode_attention_on_device(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const DecodeCache& cache, const AttentionRule& rule,
                                  const DecodeTurn& turn, DecodeScratch& scratch);
void decode_rows_on_device(const Tensor& q, const DecodeCache& cache, const AttentionRule& rule,
                           const Tensor& log_mass, const Tensor& heads, const Tensor& rows);

void decode_embed_on_device(const Tensor& table, const Tensor& ids, double scale,
                            const Tensor& out);
void decode_pick_on_device(const Tensor& logits, const Tensor& ids, const Tensor& chosen,
                           const Tensor& position, const Tensor& ticket);

}  // namespace headlens
