// headlens/kernels: the operations of a decoding step on a device, after the tensors were checked.
#include "kernels/device/decode_on_device.h"

#include <ATen/ATen.h>

#include "decode_attention.h"
#include "decode_linear.h"
#include "decode_pick.h"
#include "headlens/kernels/norm.h"
#include "kernels/device/launch.h"

namespace headlens {
namespace {

bool on_16_bytes(const Tensor& x) {
  return !x.defined() || reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0;
}

KernelActivation kernel_activation(std::optional<Activation> activation) {
  if (!activation) return KernelActivation::None;
  switch (*activation) {
    case Activation::Silu:
      return KernelActivation::Silu;
    case Activation::Gelu:
      return KernelActivation::Gelu;
    case Activation::GeluTanh:
      return KernelActivation::GeluTanh;
    case Activation::Relu:
      return KernelActivation::Relu;
    case Activation::Relu2:
      return KernelActivation::Relu2;
  }
  return KernelActivation::None;
}

DecodeMatrices matrices_of(const DecodeLinear& linear) {
  DecodeMatrices w{};
  for (size_t i = 0; i < linear.weights.size(); ++i) {
    w.weight[i] = data_of(linear.weights[i]);
    w.rows[i] = linear.weights[i].size(0);
  }
  w.in = linear.weights.front().size(1);
  w.gated = linear.gated;
  return w;
}

int narrow_int(int64_t value) {
  return static_cast<int>(value);
}

}  // namespace

bool decode_linear_fits(const Tensor& x, const DecodeLinear& linear) {
  const int64_t bytes = x.size(1) * element_size(x.scalar_type());
  bool fits = bytes % 16 == 0 && bytes <= kMaxDecodeRowBytes && on_16_bytes(x) &&
              on_16_bytes(linear.norm_weight);
  for (size_t i = 0; i < linear.weights.size(); ++i) {
    fits = fits && on_16_bytes(linear.weights[i]);
    // The rows of one matrix go in pairs where another follows.
    fits = fits &&
           (linear.gated || i + 1 == linear.weights.size() || linear.weights[i].size(0) % 2 == 0);
  }
  return fits;
}

void decode_linear_on_device(const Tensor& x, const DecodeLinear& linear, const Tensor& residual,
                             const Tensor& y, bool overlap) {
  const DeviceLaunch launch(x);
  const bool rows = x.size(0) > 1 && x.scalar_type() != at::kFloat;
  Tensor in = x;
  if (rows && linear.norm_weight.defined()) {
    in = rms_norm(x, linear.norm_weight, linear.eps, linear.plus_one);
  }
  DecodeLinearParams p{};
  p.x = data_of(in);
  p.norm_weight = rows ? nullptr : data_of(linear.norm_weight);
  p.w = matrices_of(linear);
  for (size_t i = 0; i < linear.biases.size(); ++i) p.bias[i] = data_of(linear.biases[i]);
  p.residual = data_of(residual);
  p.y = data_of(y);
  p.batch = x.size(0);
  p.eps = static_cast<float>(linear.eps);
  p.plus_one = linear.plus_one;
  p.overlap = overlap;
  p.activation = kernel_activation(linear.activation);
  p.dtype = kernel_dtype(x.scalar_type());
  launch.check("decode_linear", rows ? launch_decode_linear_rows(p, launch.stream())
                                     : launch_decode_linear(p, launch.stream()));
}

bool decode_attention_fits(const DecodeCache& cache, const DecodeTurn& turn) {
  const int64_t d = cache.k.size(3);
  const bool tables = !turn.cos.defined() || (turn.cos.scalar_type() == at::kFloat &&
                                              turn.cos.is_contiguous() && turn.sin.is_contiguous());
  return d % 8 == 0 && d <= 256 && tables && on_16_bytes(cache.k) && on_16_bytes(cache.v);
}

Tensor decode_attention_on_device(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const DecodeCache& cache, const AttentionRule& rule,
                                  const DecodeTurn& turn, DecodeScratch& scratch) {
  const DeviceLaunch launch(q);
  DecodeAttentionParams p{};
  p.batch = narrow_int(q.size(0));
  p.heads = narrow_int(q.size(1));
  p.kv_heads = narrow_int(k.size(1));
  p.d = narrow_int(q.size(2));
  if (!scratch.partial.defined()) {
    const int64_t floats = decode_attention_workspace(p.batch, p.heads, p.kv_heads, p.d);
    scratch.partial = at::empty({floats}, q.options().dtype(at::kFloat));
    scratch.tickets = at::zeros({q.size(0) * q.size(1)}, q.options().dtype(at::kInt));
  }
  Tensor z = at::empty(q.sizes(), q.options());
  p.q = data_of(q), p.k = data_of(k), p.v = data_of(v);
  p.q_stride = q.stride(0), p.kv_stride = k.stride(0);
  p.k_cache = data_of(cache.k), p.v_cache = data_of(cache.v);
  p.position = data_of<int64_t>(cache.position), p.first = data_of<int64_t>(rule.first);
  p.q_norm = data_of(turn.q_norm), p.k_norm = data_of(turn.k_norm);
  if (turn.cos.defined()) {
    p.cos = data_of<float>(turn.cos), p.sin = data_of<float>(turn.sin);
    p.table_stride = turn.cos.size(0) == 1 ? 0 : turn.cos.stride(0);
    p.rotary_pairs = narrow_int(turn.cos.size(2));
  }
  p.z = data_of(z);
  p.q_turned = data_of(scratch.q_turned), p.log_mass = data_of<float>(scratch.log_mass);
  p.partial = data_of<float>(scratch.partial), p.tickets = data_of<int>(scratch.tickets);
  p.max_position = cache.k.size(1);
  p.window = narrow_int(rule.window);
  p.scale = static_cast<float>(rule.scale), p.softcap = static_cast<float>(rule.softcap);
  p.eps = static_cast<float>(turn.eps);
  p.dtype = kernel_dtype(q.scalar_type());
  launch.check("decode_attention", launch_decode_attention(p, launch.stream()));
  return z;
}

void decode_rows_on_device(const Tensor& q, const DecodeCache& cache, const AttentionRule& rule,
                           const Tensor& log_mass, const Tensor& heads, const Tensor& rows) {
  const DeviceLaunch launch(q);
  DecodeRowsParams p{};
  p.q = data_of(q), p.k_cache = data_of(cache.k), p.log_mass = data_of<float>(log_mass);
  p.position = data_of<int64_t>(cache.position), p.first = data_of<int64_t>(rule.first);
  p.chosen = data_of<int64_t>(heads), p.rows = data_of<float>(rows);
  p.max_position = cache.k.size(1);
  p.batch = narrow_int(q.size(0)), p.heads = narrow_int(q.size(1));
  p.kv_heads = narrow_int(cache.k.size(2)), p.d = narrow_int(q.size(2));
  p.n = narrow_int(heads.numel()), p.window = narrow_int(rule.window);
  p.scale = static_cast<float>(rule.scale), p.softcap = static_cast<float>(rule.softcap);
  p.dtype = kernel_dtype(q.scalar_type());
  launch.check("decode_rows", launch_decode_rows(p, launch.stream()));
}

void decode_embed_on_device(const Tensor& table, const Tensor& ids, double scale,
                            const Tensor& out) {
  const DeviceLaunch launch(table);
  DecodeEmbedParams p{};
  p.table = data_of(table), p.ids = data_of<int64_t>(ids), p.out = data_of(out);
  p.width = table.size(1);
  p.scale = static_cast<float>(scale);
  p.batch = narrow_int(ids.numel());
  p.dtype = kernel_dtype(table.scalar_type());
  launch.check("decode_embed", launch_decode_embed(p, launch.stream()));
}

void decode_pick_on_device(const Tensor& logits, const Tensor& ids, const Tensor& chosen,
                           const Tensor& position, const Tensor& ticket) {
  const DeviceLaunch launch(logits);
  DecodePickParams p{};
  p.logits = data_of(logits), p.ids = data_of<int64_t>(ids);
  p.chosen = data_of<int64_t>(chosen), p.position = data_of<int64_t>(position);
  p.tickets = data_of<int>(ticket);
  p.vocab = logits.size(1), p.chosen_stride = chosen.size(1);
  p.batch = narrow_int(logits.size(0));
  p.dtype = kernel_dtype(logits.scalar_type());
  launch.check("decode_pick", launch_decode_pick(p, launch.stream()));
}

}  // namespace headlens
