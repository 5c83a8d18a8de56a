// headlens/model: the attention rows that a decoding step leaves for chosen heads of a layer.
#include "model/step_rows.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "headlens/kernels/decode.h"
#include "model/promote.h"

namespace headlens {

std::vector<AttentionSpec> attention_specs(const LayerSpec& layer) {
  std::vector<AttentionSpec> all;
  if (layer.mixer) {
    if (const auto* own = std::get_if<AttentionSpec>(&*layer.mixer)) all.push_back(*own);
  }
  if (layer.attention) all.push_back(*layer.attention);
  return all;
}

StepRows::StepRows(const LayerSpec& layer, const LayerHeads& wanted, int64_t batch,
                   int64_t max_length, const Tensor& k_cache) {
  std::vector<int64_t> among;
  for (const int64_t head : wanted.heads) {
    const HeadBank bank = bank_of(layer, head);
    HEADLENS_CHECK(HookError, bank.kind == LayerKind::Attention,
                   "[decoder] head, expected one of attention in layer {} ({}), got {}",
                   wanted.layer, layer_kind_name(layer), head);
    among.push_back(head - bank.first);
  }
  HEADLENS_CHECK(HookError, !among.empty(), "[decoder] heads of layer {}, expected some, got none",
                 wanted.layer);
  const AttentionSpec spec = attention_specs(layer).front();
  rule_ = {spec.scale, spec.window, spec.softcap};
  if (spec.qk_norm != QkNorm::None) q_site_ = Site::QNormed;
  if (spec.rope) q_site_ = Site::RotQ;
  heads_ = at::tensor(among, k_cache.options().dtype(at::kLong));
  rows_ = at::zeros({batch, heads_.size(0), max_length},
                    k_cache.options().dtype(at_least_float32(k_cache.scalar_type())));
}

Tensor StepRows::visit(TapPoint, Tensor value) {
  q_ = value;
  return value;
}

void StepRows::compute(const LayerState& cache, const Tensor& position, const Tensor& first) const {
  AttentionRule rule = rule_;
  rule.first = first;
  decode_rows(q_.squeeze(1), {cache.k, cache.v, position}, rule, /*log_mass=*/{}, heads_, rows_);
}

}  // namespace headlens
