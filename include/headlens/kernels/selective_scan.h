// headlens/kernels: the Mamba-1 (S6) selective scan.
#pragma once

#include <ATen/core/Tensor.h>

namespace headlens {

/// Result of a scan: y without the D skip, and the state after the last position.
struct SelectiveScanResult {
  at::Tensor y;      ///< [batch, pos, channel]
  at::Tensor state;  ///< [batch, channel, d_state]
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

/// What stands around the scan in a Mamba-1 layer; tensors may be undefined.
struct ScanSurroundings {
  at::Tensor dt_bias{};   ///< [channel], added to dt
  bool softplus = false;  ///< then dt = softplus(dt)
  at::Tensor D{};         ///< [channel]: out = y + D x
  at::Tensor z{};         ///< [batch, pos, channel]: gated = out silu(z)
  bool keep_y = false;    ///< whether y is wanted too
  bool keep_out = false;  ///< whether out is wanted too; without z it is made anyway
};

/// [batch, pos, channel] in x's dtype, each rounded once; undefined if not wanted.
struct FusedScanResult {
  at::Tensor y;      ///< C . h
  at::Tensor out;    ///< y + D x
  at::Tensor gated;  ///< out silu(z)
  at::Tensor state;  ///< [batch, channel, d_state]
};

/// The scan with what stands around it, in one pass on a GPU. Shapes as in selective_scan; dt may
/// be in x's dtype. Differentiable, twice too. ShapeError.
FusedScanResult selective_scan_fused(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& A,
                                     const at::Tensor& B, const at::Tensor& C,
                                     const at::Tensor& state, const ScanSurroundings& around);

/// The same for one position (x [batch, 1, channel], ..) of a decoder: `state`, float32 at least
/// and contiguous, is advanced in place, so that a recorded graph finds it there. Records no
/// gradients.
FusedScanResult selective_scan_step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& A,
                                    const at::Tensor& B, const at::Tensor& C, at::Tensor& state,
                                    const ScanSurroundings& around);

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
