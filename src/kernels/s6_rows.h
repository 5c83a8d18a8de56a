// headlens/kernels: rows of a Mamba-1 map by running the recurrence backwards from each row.
#pragma once

#include "headlens/core/dtype.h"

namespace headlens {

/// Is the loop over keys the faster way for this many channels? It takes one exponential a key,
/// channel and state where the closed form takes one a row too, but a few calls a key. CPU only.
bool s6_rows_worthwhile(const Tensor& rows, int64_t channels, int64_t d_state);

/// Rows of M, [batch, channel, row, pos]; dt [batch, pos, channel], A [channel, d_state], B and C
/// [batch, pos, d_state], rows int64 [batch, row], on the CPU in one dtype. Nothing is recorded for
/// autograd.
Tensor s6_rows(const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
               const Tensor& rows);

}  // namespace headlens
