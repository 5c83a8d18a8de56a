// headlens/kernels: the Mamba-2 state-space-dual scan.
#include "headlens/kernels/ssd_scan.h"

#include <ATen/ATen.h>

#include "kernels/autograd_support.h"
#include "kernels/device/ssd_map_on_device.h"
#include "kernels/device/ssd_on_device.h"
#include "kernels/device_kernels.h"
#include "kernels/segment_sums.h"
#include "kernels/ssd_chunks.h"

namespace headlens {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

Tensor or_zeros(const Tensor& grad, const Tensor& like) {
  return grad.defined() ? grad : at::zeros_like(like);
}

/// Gradients, themselves differentiable, of the readable reference.
variable_list reference_grads(const variable_list& saved, const variable_list& grads) {
  const SsdResult out =
      ssd_scan_reference(saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]);
  return differentiable_grads({out.y, out.state}, grads, saved);
}

// Saves its inputs and makes the chunk matrices again in the backward: what is kept is O(pos).
struct SsdFunction : torch::autograd::Function<SsdFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& log_decay,
                               const std::optional<Tensor>& dt, const Tensor& B, const Tensor& C,
                               const std::optional<Tensor>& state, int64_t chunk) {
    const SsdInputs in{x, log_decay, dt.value_or(Tensor()), B, C, state.value_or(Tensor())};
    ctx->save_for_backward({in.x, in.log_decay, in.dt, in.B, in.C, in.state});
    ctx->saved_data["chunk"] = chunk;
    ctx->set_materialize_grads(false);
    const SsdOutputs out = ssd_chunks_forward(in, chunk);
    return {out.y, out.state};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) {  // someone wants gradients of gradients
      variable_list result = reference_grads(saved, grads);
      result.emplace_back();
      return result;
    }
    const SsdInputs in{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]};
    const SsdInputs d = ssd_chunks_backward(in, ctx->saved_data["chunk"].toInt(),
                                            or_zeros(grads[0], in.x), grads[1]);
    return {d.x, d.log_decay, d.dt, d.B, d.C, d.state, Tensor()};
  }
};

/// Gradients by the matrix form on LibTorch's operations, in the dtypes of the inputs.
SsdInputs chunk_grads(const SsdInputs& in, const Tensor& grad_y, const Tensor& grad_state) {
  constexpr int64_t kChunk = 64;
  const auto wide = [](const Tensor& t) { return to_dtype(t, at::kFloat); };
  const SsdInputs precise{wide(in.x), wide(in.log_decay), wide(in.dt),
                          wide(in.B), wide(in.C),         wide(in.state)};
  const SsdInputs d = ssd_chunks_backward(precise, kChunk, wide(grad_y), grad_state);
  const auto as = [](const Tensor& grad, const Tensor& t) {
    return t.defined() ? grad.to(t.scalar_type()) : t;
  };
  return {as(d.x, in.x), as(d.log_decay, in.log_decay), as(d.dt, in.dt), as(d.B, in.B),
          as(d.C, in.C), as(d.state, in.state)};
}

// The same on our own device code, which reads the inputs as they are.
struct SsdDeviceFunction : torch::autograd::Function<SsdDeviceFunction> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& log_decay,
                               const std::optional<Tensor>& dt, const Tensor& B, const Tensor& C,
                               const std::optional<Tensor>& state) {
    const SsdInputs in{x, log_decay, dt.value_or(Tensor()), B, C, state.value_or(Tensor())};
    ctx->save_for_backward({in.x, in.log_decay, in.dt, in.B, in.C, in.state});
    ctx->set_materialize_grads(false);
    if constexpr (kDeviceKernels) {
      const SsdResult out = ssd_scan_on_device(in);
      return {out.y, out.state};
    }
    return {};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    if (at::GradMode::is_enabled()) return reference_grads(saved, grads);
    const SsdInputs in{saved[0], saved[1], saved[2], saved[3], saved[4], saved[5]};
    const Tensor grad_y = or_zeros(grads[0], in.x);
    SsdInputs d;
    if constexpr (kDeviceKernels) {
      d = ssd_backward_fits_device(in) ? ssd_backward_on_device(in, grad_y, grads[1])
                                       : chunk_grads(in, grad_y, grads[1]);
    }
    return {d.x, d.log_decay, d.dt, d.B, d.C, d.state};
  }
};

/// Our own device code for the scan, where it takes the inputs; else nothing.
std::optional<SsdResult> try_device(const SsdInputs& in) {
  if constexpr (kDeviceKernels) {
    const bool recorded = records_grad({in.x, in.log_decay, in.dt, in.B, in.C, in.state});
    if (in.x.size(1) == 1 && !recorded && ssd_step_fits_device(in)) return ssd_step_on_device(in);
    if (!ssd_scan_fits_device(in)) return std::nullopt;
    if (!recorded) return ssd_scan_on_device(in);
    const variable_list out = SsdDeviceFunction::apply(in.x, in.log_decay, if_defined(in.dt), in.B,
                                                       in.C, if_defined(in.state));
    return SsdResult{out[0], out[1]};
  }
  return std::nullopt;
}

// [batch, group, row, key] -> the scores of each chosen head, [batch, head, row, key]
Tensor per_head(const Tensor& grouped, int64_t heads_total, const Tensor& heads) {
  const int64_t shared = heads_total / grouped.size(1);
  if (heads.defined()) return grouped.index_select(1, heads.floor_divide(shared));
  return grouped.unsqueeze(2)
      .expand({-1, -1, shared, -1, -1})
      .reshape({grouped.size(0), heads_total, grouped.size(2), grouped.size(3)});
}

// [batch, pos, head] -> [batch, chosen head, pos]
Tensor choose(const Tensor& per_position, const Tensor& heads) {
  const Tensor all = per_position.transpose(1, 2);
  return heads.defined() ? all.index_select(1, heads) : all;
}

}  // namespace

SsdResult ssd_scan(const Tensor& x, const Tensor& log_decay, const Tensor& dt, const Tensor& B,
                   const Tensor& C, const Tensor& state, int64_t chunk) {
  HEADLENS_CHECK(ShapeError, chunk > 0, "[ssd_scan] chunk, expected at least 1, got {}", chunk);
  check_ssd_inputs("ssd_scan", {x, log_decay, dt, B, C, state});
  if (auto done = try_device({x, log_decay, dt, B, C, state})) return *done;
  if (x.size(1) == 1) return ssd_scan_reference(x, log_decay, dt, B, C, state);
  const SsdInputs in = checked_ssd_inputs("ssd_scan", x, log_decay, dt, B, C, state);
  // Longer chunks mean more multiplications for fewer, larger products, which a CPU does not need.
  constexpr int64_t kCpuChunk = 32;
  if (x.is_cpu()) chunk = std::min(chunk, kCpuChunk);
  if (records_grad({in.x, in.log_decay, in.dt, in.B, in.C, in.state})) {
    const variable_list out = SsdFunction::apply(in.x, in.log_decay, if_defined(in.dt), in.B, in.C,
                                                 if_defined(in.state), chunk);
    return {out[0].to(x.scalar_type()), out[1]};
  }
  const SsdOutputs out = ssd_chunks_forward(in, chunk);
  return {out.y.to(x.scalar_type()), out.state};
}

Tensor ssd_map_rows(const Tensor& log_decay, const Tensor& dt, const Tensor& B, const Tensor& C,
                    const Tensor& rows, const Tensor& heads) {
  const char* where = "ssd_map_rows";
  check_shape(where, "log_decay", log_decay, {-1, -1, -1});
  const int64_t batch = log_decay.size(0), pos = log_decay.size(1), head_count = log_decay.size(2);
  if (dt.defined()) check_shape(where, "dt", dt, log_decay.sizes());
  check_shape(where, "B", B, {batch, pos, -1, -1});
  check_shape(where, "C", C, B.sizes());
  check_groups(where, head_count, B.size(2));
  check_index(where, "rows", rows, {batch, -1});
  if (heads.defined()) check_index(where, "heads", heads, {-1});
  const auto dtype = compute_dtype(where, {log_decay, dt, B, C});
  if constexpr (kDeviceKernels) {
    if (has_device_kernel(log_decay) && dtype == at::kFloat && log_decay.numel() > 0 &&
        !records_grad({log_decay, dt, B, C})) {
      return ssd_map_rows_on_device({log_decay, dt, B, C}, rows, heads);
    }
  }

  const Tensor logs = choose(log_decay.to(dtype).clamp_min(kLogDecayFloor), heads);
  const Tensor scores = at::matmul(take_rows(C, rows).to(dtype).transpose(1, 2),
                                   B.to(dtype).permute({0, 2, 3, 1}));  // [batch, group, row, key]
  Tensor map = per_head(scores, head_count, heads) * row_segment_sums(logs, rows).exp();
  if (dt.defined()) map = map * choose(dt.to(dtype), heads).unsqueeze(2);
  return map.masked_fill(causal_rows(rows, pos, 0).logical_not(), 0);
}

}  // namespace headlens
