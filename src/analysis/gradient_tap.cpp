// headlens/analysis: shows head outputs of a layer to a backward, and decides how that one goes.
#include "analysis/gradient_tap.h"

#include <ATen/ATen.h>

#include "analysis/secant_attention.h"
#include "hooks/head_outputs.h"

namespace headlens {
namespace {

Tensor at_least_float(const Tensor& x) {
  return x.to(at::promote_types(x.scalar_type(), at::kFloat));
}

/// act(g) u, or act(g) without u, with the secant of act through 0 for its slope, half of the
/// product's change to each of its factors: 0.5 (c u) g + 0.5 (c g) u, c = act(g) / g, held fixed.
Tensor with_secants(const Tensor& post, const Tensor& gate, const Tensor& linear) {
  const Tensor g = gate.detach(), value = post.detach();
  const Tensor other = linear.defined() ? linear.detach() : at::ones({}, g.options());
  const Tensor product = at_least_float(g) * at_least_float(other);
  const Tensor c = at::where(product.eq(0), 0.5, at_least_float(value) / product);  // act'(0) = 1/2
  const Tensor by_gate = (c * other).to(g.scalar_type()) * gate;
  const Tensor change =
      linear.defined() ? 0.5 * (by_gate + (c * g).to(g.scalar_type()) * linear) : by_gate;
  return value + (change - change.detach());
}

std::optional<AttentionSpec> attention_of(const LayerSpec& layer) {
  if (layer.attention) return layer.attention;
  if (layer_kind(layer) != LayerKind::Attention) return std::nullopt;
  return std::get<AttentionSpec>(*layer.mixer);
}

}  // namespace

GradientTap::GradientTap(const ModelConfig& config, int64_t layer, Placement placement,
                         BackwardRule rule, HeadOutputs ablated, double share)
    : ablated_(std::move(ablated)), share_(share) {
  const LayerSpec& spec = config.layers[static_cast<size_t>(layer)];
  if (head_count(spec) > 0) {
    const auto cuts = head_output_points(config, layer, placement);
    points_.insert(cuts.begin(), cuts.end());
  }
  if (rule == BackwardRule::Slopes) return;
  const auto add = [&](std::initializer_list<Site> sites) {
    for (const Site site : sites) points_.insert({site, layer});
  };
  if (config.norm != NormKind::Layer) {
    add({Site::Ln1Scale, Site::Ln1PostScale, Site::Ln2Scale, Site::Ln2PostScale,
         Site::LnMixerScale});
  }
  add({Site::MlpPre, Site::MlpPreLinear, Site::MlpPost});
  const auto attention = attention_of(spec);
  if (!attention) return;
  softmax_ = AttentionRule{attention->scale, attention->window, attention->softcap, {}};
  add({Site::Q, Site::K, Site::V, Site::QNormed, Site::KNormed, Site::RotQ, Site::RotK});
}

Tensor GradientTap::visit(TapPoint point, Tensor value) {
  switch (point.site) {
    case Site::Q:  // the last of each is what the scores are made of
    case Site::QNormed:
    case Site::RotQ:
      return q_ = value;
    case Site::K:
    case Site::KNormed:
    case Site::RotK:
      return k_ = value;
    case Site::V:
      return v_ = value;
    case Site::Ln1Scale:
    case Site::Ln1PostScale:
    case Site::Ln2Scale:
    case Site::Ln2PostScale:
    case Site::LnMixerScale:
      return value.detach();
    case Site::MlpPre:
      return gate_ = value;
    case Site::MlpPreLinear:
      return linear_ = value;
    case Site::MlpPost:
      return with_secants(value, gate_, linear_);
    default:
      return visit_output(point, std::move(value));
  }
}

Tensor GradientTap::visit_output(TapPoint point, Tensor value) {
  if (softmax_ && point.site == Site::Z) {
    value = with_secant_backward(value, q_, k_, v_, *softmax_);
  }
  Tensor used = value;
  if (share_ != 1) {
    const Tensor heads = as_heads(value), end = ablated_at(point, heads);
    used = (end + share_ * (heads - end)).to(value.scalar_type()).view_as(value);
  }
  outputs[point] = {value, used};
  return used;
}

Tensor GradientTap::ablated_at(TapPoint point, const Tensor& like) const {
  const auto given = ablated_.find(point);
  if (given == ablated_.end()) return at::zeros({}, like.options());
  return given->second.to(like.options());
}

Tensor GradientTap::distance(TapPoint point) const {
  const Tensor clean = at_least_float(as_heads(outputs.at(point).clean.detach()));
  return clean - ablated_at(point, clean);
}

}  // namespace headlens
