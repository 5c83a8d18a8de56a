// headlens/kernels: the Mamba-1 (S6) selective scan.
#include "headlens/kernels/selective_scan.h"

#include <ATen/ATen.h>

#include "kernels/autograd_support.h"
#include "kernels/device/s6_map_on_device.h"
#include "kernels/device/selective_scan_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/s6_loop.h"
#include "kernels/s6_rows.h"
#include "kernels/segment_sums.h"

namespace headlens {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Keeps its inputs and a state every few positions; the backward makes the others again.
struct S6Function : torch::autograd::Function<S6Function> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& dt,
                               const Tensor& A, const Tensor& B, const Tensor& C,
                               const std::optional<Tensor>& state) {
    const S6Inputs in{x, dt, A, B, C, state.value_or(Tensor())};
    const S6Outputs out = s6_forward(in, s6_piece(in.x), /*save=*/true);
    ctx->save_for_backward({in.x, in.dt, in.A, in.B, in.C, in.state});
    ctx->saved_data["saved"] = out.saved;
    ctx->set_materialize_grads(false);
    return {out.y, out.state};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list in = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) {  // someone wants gradients of gradients
      const auto out = selective_scan_reference(in[0], in[1], in[2], in[3], in[4], in[5]);
      return differentiable_grads({out.y, out.state}, grads, in);
    }
    const Tensor grad_y = grads[0].defined() ? grads[0] : at::zeros_like(in[0]);
    const S6Inputs d = s6_backward({in[0], in[1], in[2], in[3], in[4], in[5]}, s6_piece(in[0]),
                                   ctx->saved_data["saved"].toTensor(), grad_y, grads[1]);
    return {d.x, d.dt, d.A, d.B, d.C, d.state};
  }
};

// sum_n C_i[n] exp(A[:, n] S_ij) B_j[n] for one block of channels; sums [batch, channel, row, pos],
// A [channel, d_state], B [batch, pos, d_state], C [batch, row, d_state].
Tensor map_block(const Tensor& sums, const Tensor& A, const Tensor& B, const Tensor& C,
                 const Tensor& causal) {
  const bool record = records_grad({sums, A, B, C});
  Tensor map = at::zeros_like(sums), scratch = record ? Tensor() : at::empty_like(sums);
  for (int64_t n = 0; n < A.size(1); ++n) {
    const Tensor rate = A.select(1, n).unsqueeze(-1).unsqueeze(-1);  // [channel, 1, 1]
    const Tensor write_read =
        (C.select(2, n).unsqueeze(2) * B.select(2, n).unsqueeze(1)).unsqueeze(1) * causal;
    if (record) {
      map = at::addcmul(map, (sums * rate).exp(), write_read);
    } else {
      at::mul_out(scratch, sums, rate);
      map.addcmul_(scratch.exp_(), write_read);
    }
  }
  return map;
}

// Channels whose rows are made at once: bounds the scratch memory, keeps small jobs in the cache.
int64_t channel_block(const Tensor& rows, int64_t pos) {
  constexpr int64_t kElementsCpu = 1 << 17, kElementsCuda = 1 << 26;
  const int64_t elements = rows.is_cpu() ? kElementsCpu : kElementsCuda;
  return std::max<int64_t>(1, elements / std::max<int64_t>(1, rows.numel() * pos));
}

}  // namespace

SelectiveScanResult selective_scan(const Tensor& x, const Tensor& dt, const Tensor& A,
                                   const Tensor& B, const Tensor& C, const Tensor& state) {
  check_s6("selective_scan", x, dt, A, B, C, state);
  if constexpr (kDeviceKernels) {
    const ScanArguments in{x, dt, A, B, C, state, {}};
    if (scan_fits_device(in)) {
      const FusedScanResult result = selective_scan_on_device(in);
      return {result.out, result.state};
    }
  }
  if (x.size(1) == 1) return selective_scan_reference(x, dt, A, B, C, state);
  const S6Inputs in = checked_s6_inputs("selective_scan", x, dt, A, B, C, state);
  if (records_grad({in.x, in.dt, in.A, in.B, in.C, in.state})) {
    const variable_list out =
        S6Function::apply(in.x, in.dt, in.A, in.B, in.C, if_defined(in.state));
    return {out[0].to(x.scalar_type()), out[1]};
  }
  const S6Outputs out = s6_forward(in, s6_piece(in.x), /*save=*/false);
  return {out.y.to(x.scalar_type()), out.state};
}

Tensor selective_scan_map_rows(const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
                               const Tensor& rows, const Tensor& channels) {
  const char* where = "selective_scan_map_rows";
  check_shape(where, "dt", dt, {-1, -1, -1});
  const int64_t batch = dt.size(0), pos = dt.size(1);
  check_shape(where, "A", A, {dt.size(2), -1});
  check_shape(where, "B", B, {batch, pos, A.size(1)});
  check_shape(where, "C", C, {batch, pos, A.size(1)});
  check_index(where, "rows", rows, {batch, -1});
  if (channels.defined()) check_index(where, "channels", channels, {-1});
  const auto dtype = compute_dtype(where, {dt, A, B, C});
  if constexpr (kDeviceKernels) {
    if (has_device_kernel(dt) && dtype == at::kFloat && dt.numel() > 0 &&
        !records_grad({dt, A, B, C})) {
      return s6_map_rows_on_device({dt, A, B, C}, rows, channels);
    }
  }

  Tensor steps = dt.transpose(1, 2), rates = A.to(dtype);  // [batch, channel, pos]
  if (channels.defined()) {
    steps = steps.index_select(1, channels), rates = rates.index_select(0, channels);
  }
  steps = steps.to(dtype);
  if (!records_grad({steps, rates, B, C}) &&
      s6_rows_worthwhile(rows, steps.size(1), rates.size(1))) {
    return s6_rows(steps.transpose(1, 2), rates, B.to(dtype), C.to(dtype), rows);
  }
  const Tensor written = B.to(dtype), read = take_rows(C, rows).to(dtype);
  const Tensor causal = causal_rows(rows, pos, 0).to(dtype);  // [batch, 1, row, pos]
  const int64_t count = steps.size(1), block = channel_block(rows, pos);
  std::vector<Tensor> blocks;
  for (int64_t first = 0; first < count; first += block) {
    const Tensor part = steps.narrow(1, first, std::min(block, count - first));
    const Tensor map = map_block(row_segment_sums(part, rows), rates.narrow(0, first, part.size(1)),
                                 written, read, causal);
    blocks.push_back(map * part.unsqueeze(2));
  }
  if (blocks.empty()) return at::zeros({batch, 0, rows.size(1), pos}, rates.options());
  return at::cat(blocks, 1);
}

}  // namespace headlens
