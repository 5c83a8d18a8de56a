// headlens/kernels: sums over stretches of positions, without cancellation.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"

namespace headlens {

/// S_ij = sum_{k=j+1..i} v_k for j <= i, 0 above the diagonal. v [.., pos] -> [.., pos, pos].
///
/// A difference of float32 cumsums would lose digits that grow with the position, and with them the
/// map's far entries. Up to float32 the difference is taken in float64, where it costs nothing; in
/// float64 every sum is accumulated on its own.
Tensor segment_sums(const Tensor& values);

/// The same for chosen rows i: v [batch, head, pos], rows [batch, row] -> [batch, head, row, pos].
Tensor row_segment_sums(const Tensor& values, const Tensor& rows);

/// True where key j <= rows[b, i] + first: rows [batch, row] -> bool [batch, 1, row, keys].
Tensor causal_rows(const Tensor& rows, int64_t keys, int64_t first);

/// values [batch, pos, ..] at rows [batch, row] -> [batch, row, ..].
Tensor take_rows(const Tensor& values, const Tensor& rows);

}  // namespace headlens
