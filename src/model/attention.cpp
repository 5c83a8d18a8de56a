// headlens/model: one softmax attention mixer.
#include "headlens/model/attention.h"

#include <ATen/ATen.h>

#include "model/mix.h"

namespace headlens {
namespace {

/// [batch, pos, head * d_head] -> [batch, pos, head, d_head]
Tensor split_heads(const Tensor& x, int64_t heads) {
  return x.unflatten(-1, {heads, x.size(-1) / heads});
}

int64_t cached_positions(const LayerState* state) {
  return state != nullptr && state->k.defined() ? state->k.size(1) : 0;
}

/// Appends new positions to what is cached, and hands the whole back.
Tensor extend(Tensor& cached, const Tensor& fresh) {
  cached = cached.defined() ? at::cat({cached, fresh}, 1) : fresh;
  return cached;
}

}  // namespace

Attention::Attention(const AttentionSpec& spec, int64_t d_model, const WeightScope& weights)
    : spec_(spec),
      q_proj_(weights.scope("q_proj"), d_model, spec.heads * spec.d_head, spec.qkv_bias),
      k_proj_(weights.scope("k_proj"), d_model, spec.kv_heads * spec.d_head, spec.qkv_bias),
      v_proj_(weights.scope("v_proj"), d_model, spec.kv_heads * spec.d_head, spec.qkv_bias),
      o_proj_(weights.scope("o_proj"), spec.heads * spec.d_head, d_model, spec.out_bias) {
  if (spec.rope) rotary_.emplace(*spec.rope, weights.device());
}

Tensor Attention::forward(const Tensor& x, const LayerTap& tap, LayerState* state) const {
  Tensor q = tap(Site::Q, split_heads(q_proj_(x), spec_.heads));
  Tensor k = tap(Site::K, split_heads(k_proj_(x), spec_.kv_heads));
  Tensor v = tap(Site::V, split_heads(v_proj_(x), spec_.kv_heads));
  if (rotary_) {
    const RotaryTable table = rotary_->table(cached_positions(state), q.size(1), q.scalar_type());
    q = tap(Site::RotQ, rotate(q, table));
    k = tap(Site::RotK, rotate(k, table));
  }
  if (state != nullptr) {
    k = extend(state->k, k);
    v = extend(state->v, v);
  }
  const Tensor z = mix_attention(q, k, v, spec_.scale, tap).to(v.scalar_type());
  return tap(Site::AttnOut, project_out(tap(Site::Z, z), tap));
}

Tensor Attention::project_out(const Tensor& z, const LayerTap& tap) const {
  if (tap.wants(Site::Result)) {
    const Tensor by_head = o_proj_.weight().unflatten(1, {spec_.heads, spec_.d_head});
    const Tensor result = at::einsum("bphd,mhd->bphm", {z, by_head});
    const Tensor seen = tap(Site::Result, result);
    if (!seen.is_same(result)) {
      const Tensor sum = seen.sum(2);
      return o_proj_.bias().defined() ? sum + o_proj_.bias() : sum;
    }
  }
  return o_proj_(z.flatten(2));
}

std::vector<Tensor> Attention::weights() const {
  return {q_proj_.weight(), q_proj_.bias(), k_proj_.weight(), k_proj_.bias(),
          v_proj_.weight(), v_proj_.bias(), o_proj_.weight(), o_proj_.bias()};
}

}  // namespace headlens
