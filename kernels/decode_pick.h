// headlens/kernels: the likeliest token of each row, and one position on.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// ids[b] = chosen[b, position + 1] = the first largest of logits[b]; then position += 1.
struct DecodePickParams {
  const void* logits;  // [batch, vocab], contiguous
  int64_t* ids;        // [batch]
  int64_t* chosen;     // [batch, chosen_stride]: the token at each position
  int64_t* position;   // one
  int* tickets;        // one zero, and zero again afterwards
  int64_t vocab, chosen_stride;
  int batch;
  KernelDtype dtype;
};
cudaError_t launch_decode_pick(const DecodePickParams& params, cudaStream_t stream);

/// out[b] = table[ids[b]] * scale, rows of `width` (a multiple of 16 bytes).
struct DecodeEmbedParams {
  const void* table;   // [vocab, width]
  const int64_t* ids;  // [batch]
  void* out;           // [batch, width]
  int64_t width;
  float scale;
  int batch;
  KernelDtype dtype;
};
cudaError_t launch_decode_embed(const DecodeEmbedParams& params, cudaStream_t stream);

}  // namespace headlens
