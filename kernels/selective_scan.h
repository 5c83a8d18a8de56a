// headlens/kernels: the Mamba-1 (S6) selective scan, forward, backward and one position at a time.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "common/dtype.h"

namespace headlens {

/// Positions between the states that a forward saves for the backward.
constexpr int64_t kScanSaveEvery = 16;
/// States that one pass of a kernel carries; more take several passes.
constexpr int64_t kScanStates = 16;

/// Longest sequence; positions and their strides are 32-bit numbers inside.
constexpr int64_t kScanMaxPos = int64_t{1} << 30;

/// [batch, pos, channel or d_state] with the last dimension contiguous; strides in elements.
struct ScanView {
  const void* data;
  int64_t batch_stride, pos_stride;
};

/// What forward and backward read. h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, y_t = C_t . h_t.
struct ScanInputs {
  int64_t batch, pos, channels, d_state;
  ScanView x, B, C;      // dtype
  ScanView dt;           // dt_dtype: float32 or dtype
  const float* A;        // [channel, d_state]
  const float* dt_bias;  // [channel] added to dt, or null
  const float* D;        // [channel] or null
  const float* state;    // [batch, channel, d_state] or null: zeros
  KernelDtype dtype, dt_dtype;
  bool softplus;  // dt = softplus(dt + dt_bias)
};

/// How many parts to cut the sequence into for few channels to fill the device. What enters a part
/// is known only after the parts before it were advanced from zeros: twice the work for many parts.
int64_t scan_pieces(int64_t batch, int64_t pos, int64_t channels);

/// Outputs are [batch, pos, channel], contiguous, in `dtype`; each but `state` may be null.
struct ScanForwardParams {
  ScanInputs in;
  ScanView z;      // the gate, in dtype; data may be null
  void* y;         // C . h
  void* skip;      // y + D x
  void* gated;     // (y + D x) silu(z)
  float* state;    // [batch, channel, d_state] after the last position; may be in.state
  float* saved;    // [batch, pos / kScanSaveEvery rounded up, channel, d_state]: states before them
  float* sums;     // [batch, pos, channel]: workspace, only for d_state > kScanStates
  float* carry;    // [batch, pieces, channel, d_state]: workspace, only for pieces > 1
  float* dt_sums;  // [batch, pieces, channel]: likewise
  int64_t pieces;  // scan_pieces(..): parts of the sequence that advance side by side
};
cudaError_t launch_selective_scan(const ScanForwardParams& params, cudaStream_t stream);

/// The same for pos = 1, which a decoder calls: one launch for any d_state, no workspace.
cudaError_t launch_selective_scan_step(const ScanForwardParams& params, cudaStream_t stream);

/// Sizes of the backward's workspaces: parts of the sequence, and blocks of channels.
int64_t scan_backward_pieces(int64_t batch, int64_t pos, int64_t channels);
int64_t scan_channel_blocks(int64_t channels);

/// Gradients of everything that a forward read, from those of y + D x (of y where in.D is null) and
/// of the last state. Sums over positions and channels are made in a fixed order.
struct ScanBackwardParams {
  ScanInputs in;
  ScanView grad_y;          // dtype [batch, pos, channel]
  const float* grad_state;  // [batch, channel, d_state] or null
  const float* saved;       // what the forward saved
  void* grad_x;             // dtype [batch, pos, channel]
  void* grad_dt;            // dt_dtype [batch, pos, channel]: of dt as it was given
  void *grad_B, *grad_C;    // dtype [batch, pos, d_state]
  float* grad_A;            // [channel, d_state]
  float* grad_D;            // [channel]; null with in.D
  float* grad_before;       // [batch, channel, d_state] or null: of in.state
  // Workspaces.
  int64_t pieces;       // scan_backward_pieces(..)
  float* carry;         // [batch, pieces, channel, d_state]; only for pieces > 1
  float* dt_sums;       // [batch, pieces, channel]; likewise
  float* partial_A;     // [batch, pieces, channel, d_state]
  float* partial_D;     // [batch, pieces, channel]; null with in.D
  float* partial_rows;  // [scan_channel_blocks, batch, pos, 2, kScanStates]
  float* sums;          // [2, batch, pos, channel]; only for d_state > kScanStates
};
cudaError_t launch_selective_scan_backward(const ScanBackwardParams& params, cudaStream_t stream);

/// Gradients through gated = skip silu(z).
struct ScanGateBackwardParams {
  const void* grad_gated;  // dtype [batch * pos, channel], contiguous like all but z
  const void* skip;
  const void* z;  // rows of one sequence z_pos_stride apart, sequences z_batch_stride
  void *grad_skip, *grad_z;
  int64_t batch, pos, channels, z_batch_stride, z_pos_stride;
  KernelDtype dtype;
};
cudaError_t launch_scan_gate_backward(const ScanGateBackwardParams& params, cudaStream_t stream);

}  // namespace headlens
