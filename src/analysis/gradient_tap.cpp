// headlens/analysis: shows head outputs of a layer to a backward, and decides how that one goes.
#include "analysis/gradient_tap.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "analysis/secant_attention.h"
#include "hooks/head_outputs.h"

namespace headlens {
namespace {

Tensor at_least_float(const Tensor& x) {
  return x.to(at::promote_types(x.scalar_type(), at::kFloat));
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// value / x, the secant through 0; `slope` where x is 0.
Tensor secant(const Tensor& value, const Tensor& x, const Tensor& slope) {
  return at::where(x.eq(0), slope, value / x);
}

/// act(g) u, or act(g) without u, as the forward has it. Backward, the secant of act through 0 is
/// its slope and half of the product's change goes to each factor: 0.5 (c u) dg + 0.5 (c g) du, c =
/// act(g) / g, and 1/2 at 0.
struct ActivationSecants : torch::autograd::Function<ActivationSecants> {
  static Tensor forward(AutogradContext* ctx, const Tensor& value, const Tensor& gate,
                        const std::optional<Tensor>& linear) {
    ctx->save_for_backward({value, gate, linear.value_or(Tensor())});
    return value;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &value = saved[0], &gate = saved[1], &linear = saved[2];
    const Tensor half = at::full({}, 0.5, gate.options());
    if (!linear.defined()) return {Tensor(), grads[0] * secant(value, gate, half), Tensor()};
    const Tensor own = grads[0] * half;
    return {Tensor(), own * secant(value, gate, half * linear),
            own * secant(value, linear, half * gate)};
  }
};

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
      return ActivationSecants::apply(
          value.detach(), gate_, linear_.defined() ? std::optional<Tensor>(linear_) : std::nullopt);
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
