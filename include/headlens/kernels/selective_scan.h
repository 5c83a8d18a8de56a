// headlens/kernels: the Mamba-1 (S6) selective scan.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

/// Result of a scan: y without the D skip, and the state after the last position.
struct SelectiveScanResult {
  at::Tensor y;      // [batch, pos, channel]
  at::Tensor state;  // [batch, channel, d_state]
};

/// h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, y_t = C_t . h_t (arXiv 2312.00752, eq. 2).
///
/// x, dt [batch, pos, channel]; A [channel, d_state] (negative); B, C [batch, pos, d_state];
/// state [batch, channel, d_state] or undefined (zeros). Computes in at least float32, in which the
/// state stays; y has x's dtype. Differentiable, twice too; keeps a state every few positions for
/// the backward, else memory is O(pos). Only decays are multiplied: no dt is too large. ShapeError.
SelectiveScanResult selective_scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& A,
                                   const at::Tensor& B, const at::Tensor& C,
                                   const at::Tensor& state);

/// The same, one position after another: the readable reference.
SelectiveScanResult selective_scan_reference(const at::Tensor& x, const at::Tensor& dt,
                                             const at::Tensor& A, const at::Tensor& B,
                                             const at::Tensor& C, const at::Tensor& state);

/// States after every position, [batch, pos, channel, d_state]: made because asked.
at::Tensor selective_scan_states(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& A,
                                 const at::Tensor& B, const at::Tensor& state);

/// Rows of M: [batch, channel, row, pos] for `rows` [batch, row]; `channels` int64 [n] or undefined
/// for all. M_ij = sum_n C_i[n] exp(A[n] sum_{k=j+1..i} dt_k) dt_j B_j[n] for j <= i, else 0.
/// Memory O(batch x channel x row x pos), never times d_state (save under autograd, which keeps one
/// such tensor a state index). At least float32.
at::Tensor selective_scan_map_rows(const at::Tensor& dt, const at::Tensor& A, const at::Tensor& B,
                                   const at::Tensor& C, const at::Tensor& rows,
                                   const at::Tensor& channels);

}  // namespace headlens
