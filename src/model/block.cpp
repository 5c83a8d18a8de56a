// headlens/model: one block of the residual stream.
#include "headlens/model/block.h"

#include <ATen/ATen.h>

#include "core/check.h"

namespace headlens {
namespace {

void append(std::vector<Tensor>& all, const std::vector<Tensor>& more) {
  for (const Tensor& tensor : more) {
    if (tensor.defined()) all.push_back(tensor);
  }
}

}  // namespace

Block::Block(const ModelConfig& config, const LayerSpec& spec, const TensorNames& names,
             const WeightScope& weights) {
  const int64_t d_model = config.d_model;
  const auto make_mixer = [&]<typename Spec>(const Spec& mixer) -> Mixer {
    if constexpr (std::is_same_v<Spec, AttentionSpec>) {
      return Attention(mixer, d_model, weights.scope(names.attention));
    } else if constexpr (std::is_same_v<Spec, Mamba1Spec>) {
      return Mamba1(mixer, d_model, weights.scope(names.mixer));
    } else if constexpr (std::is_same_v<Spec, Mamba2Spec>) {
      return Mamba2(mixer, d_model, weights.scope(names.mixer));
    } else {
      return DiscreteMamba2(mixer, d_model, weights.scope(names.mixer));
    }
  };
  if (spec.mixer) {
    norm1_ = RmsNorm(weights.scope(names.norm1), d_model, config.norm_eps);
    mixer_ = std::visit(make_mixer, *spec.mixer);
  }
  if (spec.mlp) {
    norm2_ = RmsNorm(weights.scope(names.norm2), d_model, config.norm_eps);
    mlp_ = Mlp(*spec.mlp, d_model, weights.scope(names.mlp));
  }
}

Tensor Block::forward(Tensor resid, const LayerTap& tap, LayerState* state) const {
  resid = tap(Site::ResidPre, resid);
  if (mixer_) {
    const Tensor x = norm1_.forward(resid, tap, Site::Ln1Scale, Site::Ln1Normalized);
    const auto run = [&](const auto& mixer) { return mixer.forward(x, tap, state); };
    resid = resid + std::visit(run, *mixer_);
  }
  if (mixer_ && mlp_) resid = tap(Site::ResidMid, resid);
  return tap(Site::ResidPost, add_mlp(std::move(resid), tap));
}

Tensor Block::add_mlp(Tensor resid, const LayerTap& tap) const {
  if (!mlp_) return resid;
  const Tensor x = norm2_.forward(resid, tap, Site::Ln2Scale, Site::Ln2Normalized);
  return resid + mlp_->forward(x, tap);
}

Tensor Block::finish(Tensor resid, const Tensor& z) const {
  HEADLENS_CHECK(ShapeError, mixer_.has_value(),
                 "[finish_layer] layer, expected one with a mixer, got an MLP only");
  const int64_t d_inner = output_weight().size(1);
  const bool fits = z.dim() >= 3 && z.size(0) == resid.size(0) && z.size(1) == resid.size(1) &&
                    z.numel() == resid.size(0) * resid.size(1) * d_inner;
  HEADLENS_CHECK(ShapeError, fits, "[finish_layer] z, expected [{}, {}, {} in all], got {}",
                 resid.size(0), resid.size(1), d_inner, shape_string(z.sizes()));
  const auto project = [&](const auto& mixer) { return mixer.output()(z.flatten(2)); };
  resid = resid + std::visit(project, *mixer_);
  return add_mlp(std::move(resid), LayerTap(nullptr, 0));
}

Tensor Block::output_weight() const {
  if (!mixer_) return {};
  return std::visit([](const auto& mixer) { return mixer.output().weight(); }, *mixer_);
}

std::vector<Tensor> Block::weights() const {
  std::vector<Tensor> all;
  append(all, {norm1_.weight(), norm2_.weight()});
  if (mixer_) append(all, std::visit([](const auto& mixer) { return mixer.weights(); }, *mixer_));
  if (mlp_) append(all, mlp_->weights());
  return all;
}

}  // namespace headlens
