// headlens/kernels: the Mamba-2 state-space-dual scan.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace headlens {

/// Result of a scan: y without the D skip, and the state after the last position.
struct SsdResult {
  at::Tensor y;      ///< [batch, pos, head, d_head]
  at::Tensor state;  ///< [batch, head, d_head, d_state]
};

/// h_t = exp(log_decay_t) h_{t-1} + dt_t x_t B_t^T, y_t = h_t C_t, in chunks of matrix products
/// (arXiv 2405.21060, section 6) with the stable segment sum.
///
/// x [batch, pos, head, d_head]; log_decay, dt [batch, pos, head] (dt undefined: 1); B, C [batch,
/// pos, group, d_state], head h reads group h / (heads / groups); state [batch, head, d_head,
/// d_state] or undefined (zeros). `chunk` is the most positions a chunk may have; any length goes.
/// Computes in at least float32, in which the state stays; y has x's dtype. Differentiable, twice
/// too; memory O(pos x chunk), of which a backward finds only the inputs kept. ShapeError.
///
/// On CUDA, float16 or bfloat16 x, B and C with d_head and d_state multiples of 8 (d_state at most
/// 256) take one pass that rounds the operands of its products, the state among them, to that dtype
/// and sums in float32: errors of y, of the state and of gradients stay near that dtype's rounding
/// of the largest. `chunk` says nothing then. One position alone is computed in float32.
SsdResult ssd_scan(const at::Tensor& x, const at::Tensor& log_decay, const at::Tensor& dt,
                   const at::Tensor& B, const at::Tensor& C, const at::Tensor& state,
                   int64_t chunk);

/// The same, one position after another: the readable reference.
SsdResult ssd_scan_reference(const at::Tensor& x, const at::Tensor& log_decay, const at::Tensor& dt,
                             const at::Tensor& B, const at::Tensor& C, const at::Tensor& state);

/// States after every position, [batch, pos, head, d_head, d_state]: O(pos) states, made because
/// asked.
at::Tensor ssd_states(const at::Tensor& x, const at::Tensor& log_decay, const at::Tensor& dt,
                      const at::Tensor& B, const at::Tensor& state);

/// Rows of M: [batch, head, row, pos] for `rows` [batch, row]; `heads` int64 [n] or undefined for
/// all. M_ij = (C_i.B_j) exp(sum_{k=j+1..i} log_decay_k) dt_j for j <= i, else 0.
at::Tensor ssd_map_rows(const at::Tensor& log_decay, const at::Tensor& dt, const at::Tensor& B,
                        const at::Tensor& C, const at::Tensor& rows, const at::Tensor& heads);

}  // namespace headlens
