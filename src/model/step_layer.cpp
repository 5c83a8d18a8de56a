// headlens/model: a layer of norms, attention and MLP as the few operations of one decoding step.
#include "model/step_layer.h"

#include <ATen/ATen.h>

#include "headlens/model/rotary.h"
#include "model/promote.h"

namespace headlens {
namespace {

bool knows_attention(const Attention& attention, int64_t d_model) {
  const AttentionSpec& spec = attention.spec();
  return spec.layout != QkvLayout::FusedPerHead && spec.qk_norm != QkNorm::Whole &&
         spec.adapter_rank == 0 && (spec.d_in == 0 || spec.d_in == d_model) && spec.in_scale == 1 &&
         spec.key_scale == 1 && spec.out_scale == 1 &&
         attention.output().weight().is_contiguous() &&
         attention.qkv().part_weights()[0].is_contiguous();
}

bool knows_mlp(const Mlp& mlp) {
  const MlpSpec& spec = mlp.spec();
  return spec.adapter_rank == 0 && spec.gate_scale == 1 && spec.out_scale == 1 &&
         mlp.down().weight.is_contiguous() && mlp.up().weight.is_contiguous();
}

void add_norm(DecodeLinear& linear, const Norm& norm) {
  linear.norm_weight = norm.weight();
  linear.eps = norm.eps();
  linear.plus_one = norm.kind() == NormKind::RmsPlusOne;
}

Tensor room_for(const Tensor& x, const DecodeLinear& linear) {
  return at::empty({x.size(0), linear.width()}, x.options());
}

}  // namespace

DecodeTurn turn_table(const RopeSpec& spec, const std::vector<int64_t>& lengths, int64_t max_length,
                      at::Device device, at::ScalarType dtype) {
  const Tensor place = at::arange(max_length, at::TensorOptions(at::kDouble)).unsqueeze(1);
  std::vector<Tensor> angles;
  for (const int64_t length : lengths) {
    angles.push_back(place * at::tensor(rotary_frequencies(spec, length), at::kDouble));
  }
  const Tensor all = at::stack(angles);
  const double factor = rotary_attention_factor(spec);
  const auto precise = at_least_float32(dtype);
  DecodeTurn turn;
  turn.cos = (all.cos() * factor).to(device, precise);
  turn.sin = (all.sin() * factor).to(device, precise);
  return turn;
}

bool StepLayer::knows(const Block& block, int64_t d_model) {
  const LayerSpec& spec = block.spec();
  if (spec.wiring != Wiring::Sequential || spec.attention || !block.grafted_heads().empty()) {
    return false;
  }
  for (const Norm* norm :
       {&block.mixer_norm(), &block.mlp_norm()}) {  // a grafted layer has its own
    if (norm->kind() == NormKind::Layer) return false;
  }
  if (spec.mixer && block.attention() == nullptr) return false;
  return (!spec.mixer || knows_attention(*block.attention(), d_model)) &&
         (!spec.mlp || knows_mlp(*block.mlp()));
}

StepLayer::StepLayer(const Block& block, const DecodeTurn& table) : turn_(table) {
  if (const Attention* attention = block.attention()) {
    attention_ = attention->spec();
    const auto weights = attention->qkv().part_weights(), biases = attention->qkv().part_biases();
    qkv_.weights = {weights[0], weights[1], weights[2]};
    qkv_.biases = {biases[0], biases[1], biases[2]};
    add_norm(qkv_, block.mixer_norm());
    out_.weights = {attention->output().weight()};
    out_.biases = {attention->output().bias()};
    turn_.q_norm = attention->q_norm().weight(), turn_.k_norm = attention->k_norm().weight();
    turn_.eps = attention->q_norm().eps();
  }
  const Mlp* mlp = block.mlp();
  if (mlp == nullptr) return;
  has_mlp_ = true;
  const Mlp::Part up = mlp->up(), down = mlp->down();
  in_.weights = {up.weight}, in_.biases = {up.bias};
  if (mlp->spec().gated) {
    const Mlp::Part gate = mlp->gate();
    in_.weights = {gate.weight, up.weight}, in_.biases = {gate.bias, up.bias};
  }
  in_.gated = mlp->spec().gated;
  in_.activation = mlp->spec().activation;
  add_norm(in_, block.mlp_norm());
  down_.weights = {down.weight}, down_.biases = {down.bias};
}

void StepLayer::run(const Tensor& x, const LayerState& state, const Tensor& position,
                    const Tensor& first, const Tensor& out) {
  const Tensor& resid = attention_ ? out : x;
  if (attention_) {
    const Tensor z = attend(x, state, position, first);
    decode_linear(z, out_, x, out, /*overlap=*/has_mlp_);
  }
  if (has_mlp_) {
    const Tensor post = room_for(x, in_);
    decode_linear(resid, in_, /*residual=*/{}, post);
    decode_linear(post, down_, resid, out, overlap_next_);
  }
  if (!attention_ && !has_mlp_ && !out.is_same(x)) out.copy_(x);
}

/// What the output projection reads: [batch, head * d_head]
Tensor StepLayer::attend(const Tensor& x, const LayerState& state, const Tensor& position,
                         const Tensor& first) {
  const AttentionSpec& spec = *attention_;
  const Tensor projected = room_for(x, qkv_);
  decode_linear(x, qkv_, /*residual=*/{}, projected);
  const int64_t q = spec.heads * spec.d_head, kv = spec.kv_heads * spec.d_head;
  const auto part = [&](int64_t from, int64_t heads) {
    return projected.narrow(1, from, heads * spec.d_head).unflatten(1, {heads, spec.d_head});
  };
  const DecodeCache cache{state.k, state.v, position};
  const AttentionRule rule{spec.scale, spec.window, spec.softcap, first};
  const Tensor z = decode_attention(part(0, spec.heads), part(q, spec.kv_heads),
                                    part(q + kv, spec.kv_heads), cache, rule, turn_, scratch_);
  if (heads_.defined()) {
    decode_rows(scratch_.q_turned, cache, rule, scratch_.log_mass, heads_, rows_);
  }
  return z.flatten(1);
}

void StepLayer::show_rows(const Tensor& heads, const Tensor& rows) {
  heads_ = heads, rows_ = rows;
  scratch_.q_turned = scratch_.log_mass = Tensor();
  if (!heads.defined()) return;
  const int64_t batch = rows.size(0);
  scratch_.q_turned =
      at::empty({batch, attention_->heads, attention_->d_head}, out_.weights.front().options());
  scratch_.log_mass = at::empty({batch, attention_->heads}, rows.options());
}

}  // namespace headlens
