// headlens/model: one softmax attention mixer.
#include "headlens/model/attention.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "headlens/kernels/attention_rows.h"
#include "headlens/kernels/decode.h"
#include "model/mix.h"
#include "model/scaled.h"

namespace headlens {
namespace {

/// [batch, pos, head * d_head] -> [batch, pos, head, d_head]
Tensor split_heads(const Tensor& x, int64_t heads) {
  return x.unflatten(-1, {heads, x.size(-1) / heads});
}

/// x [batch or 1, pos, ..] at positions [batch, n] -> [batch, n, ..]
Tensor at_positions(const Tensor& x, const Tensor& positions) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = positions.size(0), shape[1] = positions.size(1);
  Tensor index = positions;
  while (index.dim() < x.dim()) index = index.unsqueeze(-1);
  std::vector<int64_t> all = x.sizes().vec();
  all[0] = positions.size(0);
  return x.expand(all).gather(1, index.expand(shape));
}

/// One position of q, k and v over a state's buffers: z [batch, 1, head, d_head]
Tensor attend_step(const Tensor& q, const Tensor& k, const Tensor& v, const LayerState& state,
                   const Tensor& step, const AttentionRule& rule) {
  DecodeScratch scratch;
  return decode_attention(q.squeeze(1), k.squeeze(1), v.squeeze(1), {state.k, state.v, step}, rule,
                          /*turn=*/{}, scratch)
      .unsqueeze(1);
}

/// Appends new positions to what is cached, and hands the whole back.
Tensor extend(Tensor& cached, const Tensor& fresh) {
  cached = cached.defined() ? at::cat({cached, fresh}, 1) : fresh;
  return cached;
}

}  // namespace

QkvProjection::QkvProjection(const AttentionSpec& spec, int64_t d_in, const AttentionNames& names,
                             bool transposed, const WeightScope& weights, int64_t use)
    : spec_(spec) {
  const int64_t q = spec.heads * spec.d_head, kv = spec.kv_heads * spec.d_head;
  if (spec.layout == QkvLayout::Separate) {
    if (!transposed) {
      joined_ =
          Linear::joined(weights, {names.q, names.k, names.v}, d_in, {q, kv, kv}, spec.qkv_bias);
    }
    parts_[0] = Linear(weights.scope(names.q), d_in, q, spec.qkv_bias, transposed);
    parts_[1] = Linear(weights.scope(names.k), d_in, kv, spec.qkv_bias, transposed);
    parts_[2] = Linear(weights.scope(names.v), d_in, kv, spec.qkv_bias, transposed);
  } else {
    parts_[0] = Linear(weights.scope(names.qkv), d_in, q + 2 * kv, spec.qkv_bias, transposed);
  }
  if (spec.adapter_rank == 0) return;
  for (size_t i = 0; i < 3; ++i) {
    const std::string list = fmt::format("linear_{}_adapter_list.{}", "qkv"[i], use);
    adapters_[i] = Adapter(weights.scope(list), d_in, spec.adapter_rank, i == 0 ? q : kv);
  }
}

std::array<Tensor, 3> QkvProjection::operator()(const Tensor& x) const {
  const int64_t d_head = spec_.d_head;
  if (spec_.layout == QkvLayout::FusedPerHead) {
    const auto parts = split_heads(parts_[0](x), spec_.heads).split(d_head, -1);
    return {parts[0], parts[1], parts[2]};
  }
  std::array<Tensor, 3> qkv;
  if (spec_.layout == QkvLayout::Fused || joined_.defined()) {
    const Tensor all = joined_.defined() ? joined_(x) : parts_[0](x);
    const int64_t kv = spec_.kv_heads * d_head;
    const auto parts = all.split_with_sizes({spec_.heads * d_head, kv, kv}, -1);
    qkv = {parts[0], parts[1], parts[2]};
  } else {
    for (size_t i = 0; i < 3; ++i) qkv[i] = parts_[i](x);
  }
  for (size_t i = 0; i < 3; ++i) qkv[i] = adapters_[i].add(qkv[i], x);
  return {split_heads(qkv[0], spec_.heads), split_heads(qkv[1], spec_.kv_heads),
          split_heads(qkv[2], spec_.kv_heads)};
}

std::array<Tensor, 3> QkvProjection::queries_at(const Tensor& x, const Tensor& positions) const {
  if (spec_.layout != QkvLayout::Separate) {  // one matrix: what is saved is the rest of the layer
    std::array<Tensor, 3> qkv = (*this)(x);
    qkv[0] = at_positions(qkv[0], positions);
    return qkv;
  }
  const Tensor chosen = at_positions(x, positions);
  const std::array<const Tensor*, 3> read = {&chosen, &x, &x};
  std::array<Tensor, 3> qkv;
  for (size_t i = 0; i < 3; ++i) {
    const Tensor part = adapters_[i].add(parts_[i](*read[i]), *read[i]);
    qkv[i] = split_heads(part, i == 0 ? spec_.heads : spec_.kv_heads);
  }
  return qkv;
}

std::array<Tensor, 3> QkvProjection::parts_of(Tensor (*of)(const Linear&)) const {
  if (spec_.layout == QkvLayout::Separate) return {of(parts_[0]), of(parts_[1]), of(parts_[2])};
  const Tensor all = of(parts_[0]);
  if (!all.defined()) return {};
  const int64_t q = spec_.heads * spec_.d_head, kv = spec_.kv_heads * spec_.d_head;
  return {all.narrow(0, 0, q), all.narrow(0, q, kv), all.narrow(0, q + kv, kv)};
}

std::array<Tensor, 3> QkvProjection::part_weights() const {
  return parts_of([](const Linear& linear) { return linear.weight(); });
}

std::array<Tensor, 3> QkvProjection::part_biases() const {
  return parts_of([](const Linear& linear) { return linear.bias(); });
}

std::vector<Tensor> QkvProjection::weights() const {
  std::vector<Tensor> all;
  for (size_t i = 0; i < 3; ++i) {
    all.insert(all.end(), {parts_[i].weight(), parts_[i].bias()});
    const auto more = adapters_[i].weights();
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

Attention::Attention(const AttentionSpec& spec, int64_t d_model, double norm_eps,
                     const TensorNames& names, const WeightScope& weights, int64_t use)
    : spec_(spec),
      qkv_(spec, spec.d_in > 0 ? spec.d_in : d_model, names.attention, names.transposed, weights,
           use),
      o_proj_(weights.scope(names.attention.out), spec.heads * spec.d_head, d_model, spec.out_bias,
              names.transposed) {
  if (spec.rope) rotary_.emplace(*spec.rope, weights.device());
  if (spec.qk_norm == QkNorm::None) return;
  const bool whole = spec.qk_norm == QkNorm::Whole;
  q_norm_ = Norm(weights.scope("q_norm"), whole ? spec.heads * spec.d_head : spec.d_head,
                 NormKind::Rms, norm_eps);
  k_norm_ = Norm(weights.scope("k_norm"), whole ? spec.kv_heads * spec.d_head : spec.d_head,
                 NormKind::Rms, norm_eps);
}

Tensor Attention::forward(const Tensor& u, const LayerTap& tap, LayerState* state,
                          const Prompt& prompt) const {
  const auto projected = qkv_(scaled(u, spec_.in_scale));
  Tensor q = tap(Site::Q, projected[0]);
  Tensor k = tap(Site::K, scaled(projected[1], spec_.key_scale));
  Tensor v = tap(Site::V, projected[2]);
  if (spec_.qk_norm != QkNorm::None) {
    q = tap(Site::QNormed, normalize(q_norm_, q));
    k = tap(Site::KNormed, normalize(k_norm_, k));
  }
  if (rotary_) {
    const RotaryTable table = rotary_->table(prompt, q.size(1), q.scalar_type());
    q = tap(Site::RotQ, rotate(q, table));
    k = tap(Site::RotK, rotate(k, table));
  }
  const AttentionRule rule{spec_.scale, spec_.window, spec_.softcap, prompt.first};
  if (state != nullptr && prompt.step.defined()) {
    return project_out(tap(Site::Z, attend_step(q, k, v, *state, prompt.step, rule)), tap);
  }
  if (state != nullptr) {
    k = extend(state->k, k);
    v = extend(state->v, v);
  }
  const Tensor z = mix_attention(q, k, v, rule, tap).to(v.scalar_type());
  return project_out(tap(Site::Z, z), tap);
}

Tensor Attention::heads_at(const Tensor& u, const Tensor& positions, LayerState* state,
                           const Prompt& prompt) const {
  auto [q, k, v] = qkv_.queries_at(scaled(u, spec_.in_scale), positions);
  k = scaled(k, spec_.key_scale);
  if (spec_.qk_norm != QkNorm::None) {
    q = normalize(q_norm_, q);
    k = normalize(k_norm_, k);
  }
  if (rotary_) {
    const RotaryTable table = rotary_->table(prompt, u.size(1), k.scalar_type());
    q = rotate(q, {at_positions(table.cos, positions), at_positions(table.sin, positions)});
    k = rotate(k, table);
  }
  if (state != nullptr) {
    k = extend(state->k, k);
    v = extend(state->v, v);
  }
  const AttentionRule rule{spec_.scale, spec_.window, spec_.softcap, prompt.first};
  return attention_rows(q, k, v, rule, positions + (k.size(1) - u.size(1)));
}

/// x [batch, pos, head, d_head] -> the same, normed per head or over all heads at once
Tensor Attention::normalize(const Norm& norm, const Tensor& x) const {
  if (spec_.qk_norm == QkNorm::PerHead) return norm(x);
  return norm(x.flatten(2)).view_as(x);
}

Tensor Attention::project(const Tensor& z) const {
  return scaled(o_proj_(z), spec_.out_scale);
}

Tensor Attention::project_out(const Tensor& z, const LayerTap& tap) const {
  if (tap.wants(Site::Result)) {
    const Tensor by_head = o_proj_.weight().unflatten(1, {spec_.heads, spec_.d_head});
    const Tensor result = scaled(at::einsum("bphd,mhd->bphm", {z, by_head}), spec_.out_scale);
    const Tensor seen = tap(Site::Result, result);
    if (!seen.is_same(result)) {
      const Tensor sum = seen.sum(2);
      return o_proj_.bias().defined() ? sum + scaled(o_proj_.bias(), spec_.out_scale) : sum;
    }
  }
  return project(z.flatten(2));
}

std::vector<Tensor> Attention::weights() const {
  std::vector<Tensor> all = qkv_.weights();
  all.insert(all.end(), {q_norm_.weight(), k_norm_.weight(), o_proj_.weight(), o_proj_.bias()});
  return all;
}

}  // namespace headlens
