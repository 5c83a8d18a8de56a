// headlens/kernels: the Mamba-2 scan over whole sequences, its gradient, one position of it.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// [batch, pos, head or group, ..]: strides in elements; the last dimension is contiguous.
struct SsdView {
  const void* data;
  int64_t batch;
  int pos, head;
};

/// h_t = exp(log_decay_t) h_{t-1} + dt_t x_t B_t^T, y_t = h_t C_t (+ D x_t). Float16 or BFloat16 x,
/// B, C and y; everything else float32. The matrix products take operands of that dtype (the state
/// and decay * dt * x too) and sum in float32. Rows of x, B, C and y start at multiples of 16
/// bytes.
struct SsdParams {
  SsdView x, B, C;
  SsdView log_decay, dt;  // float32 [batch, pos, head]; dt.data null: 1
  const float* D;         // [head] or null
  const float* state_in;  // [batch, head, d_head, d_state], or null for zeros
  float* state_out;       // the same; may be state_in
  SsdView y;              // written
  float* workspace;       // ssd_scan_workspace() bytes
  int batch, pos, heads, groups, d_head, d_state;
  KernelDtype dtype;
};

/// d_head and d_state multiples of 8, d_state at most 256.
bool ssd_scan_supports(const SsdParams& params);
size_t ssd_scan_workspace(const SsdParams& params);
cudaError_t launch_ssd_scan(const SsdParams& params, cudaStream_t stream);

/// Gradients of everything that a scan without D reads, from those of y and of state_out.
struct SsdBackwardParams {
  SsdParams forward;        // y, state_out and D unused
  SsdView grad_y;           // as y
  const float* grad_state;  // of state_out, or null for zeros
  SsdView grad_x;           // as x, written
  SsdView grad_B, grad_C;   // as B and C, written
  SsdView grad_log_decay;   // float32, written
  SsdView grad_dt;          // float32, written; data null: not wanted
  float* grad_state_in;     // written; null: not wanted
};

/// As for the scan, d_state at most 128.
bool ssd_backward_supports(const SsdBackwardParams& params);
size_t ssd_backward_workspace(const SsdBackwardParams& params);
cudaError_t launch_ssd_backward(const SsdBackwardParams& params, cudaStream_t stream);

/// One position (params.pos is 1), computed in float32 whatever the dtype of x, B, C and y; no
/// workspace. d_state a multiple of 4; rows of B and C start at multiples of 4 elements.
bool ssd_step_supports(const SsdParams& params);
cudaError_t launch_ssd_step(const SsdParams& params, cudaStream_t stream);

}  // namespace headlens
