// headlens/hooks: interventions on what an MLP writes to the residual.
#include "headlens/hooks/mlp_intervention.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/check.h"
#include "hooks/head_outputs.h"

namespace headlens {

void check_mlps(const ModelConfig& config, const std::vector<int64_t>& layers) {
  const int64_t count = std::ssize(config.layers);
  for (const int64_t layer : layers) {
    HEADLENS_CHECK(HookError, 0 <= layer && layer < count, "[ablate] layer, expected 0..{}, got {}",
                   count - 1, layer);
    HEADLENS_CHECK(HookError, config.layers[static_cast<size_t>(layer)].mlp.has_value(),
                   "[ablate] MLP, expected a layer with one, got {}", layer);
  }
}

MlpIntervention::MlpIntervention(const ModelConfig& config,
                                 std::map<int64_t, std::vector<bool>> variants,
                                 HeadReplacement replacement, Tensor positions)
    : replacement_(std::move(replacement)), positions_(std::move(positions)) {
  for (const auto& [layer, cut] : variants) {
    check_mlps(config, {layer});
    HEADLENS_CHECK(HookError, cut.size() == variants.begin()->second.size(),
                   "[ablate] variants of the MLP of layer {}, expected {}, got {}", layer,
                   variants.begin()->second.size(), cut.size());
    if (std::find(cut.begin(), cut.end(), true) == cut.end()) continue;
    Tensor mask = at::zeros({std::ssize(cut)}, at::kBool);
    for (size_t v = 0; v < cut.size(); ++v) mask[static_cast<int64_t>(v)] = cut[v];
    layers_[layer].mask = mask;
  }
  HEADLENS_CHECK(HookError, !layers_.empty(),
                 "[ablate] MLPs to cut, expected at least one, got none");
}

bool MlpIntervention::wants(TapPoint point) const {
  return point.site == Site::MlpOut && layers_.contains(point.layer);
}

Tensor MlpIntervention::visit(TapPoint point, Tensor value) {
  Layer& layer = layers_.at(point.layer);
  const int64_t batch = value.size(0), pos = value.size(1), variants = layer.mask.size(0);
  HEADLENS_CHECK(ShapeError, batch % variants == 0,
                 "[ablate] batch, expected a multiple of the {} variants, got {}", variants, batch);
  Tensor where = layer.mask.repeat_interleave(batch / variants).view({batch, 1, 1, 1});
  if (positions_.defined()) {
    const Tensor places = positions_.to(at::kCPU, at::kBool);
    const bool fits = places.dim() == 2 && places.size(1) == pos && batch % places.size(0) == 0;
    HEADLENS_CHECK(ShapeError, fits, "[ablate] positions, expected [{}, pos={}], got {}",
                   batch / variants, pos, shape_string(places.sizes()));
    const Tensor repeated = places.repeat({batch / places.size(0), 1});
    where = where.logical_and(repeated.view({batch, pos, 1, 1}));
  }
  ++layer.fired;
  layer.touched += where.sum().item<int64_t>() * (pos / where.size(1));
  const Tensor outputs = value.unsqueeze(-1);
  const Tensor put = replacement_(outputs, point).to(outputs.options());
  return at::where(where.to(value.device()), put, outputs).squeeze(-1);
}

void MlpIntervention::check_touched() const {
  for (const auto& [layer, cut] : layers_) {
    check_one_touched({Site::MlpOut, layer}, cut.fired, cut.touched);
  }
}

void MlpIntervention::reset() {
  for (auto& [layer, cut] : layers_) cut.fired = cut.touched = 0;
}

}  // namespace headlens
