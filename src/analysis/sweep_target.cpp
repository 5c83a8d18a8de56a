// headlens/analysis: what one variant of a sweep changes in the model.
#include "headlens/analysis/sweep_target.h"

#include "core/check.h"
#include "headlens/hooks/interventions.h"

namespace headlens {

SweepTarget whole_layers(const ModelConfig& config, const std::vector<int64_t>& layers) {
  SweepTarget target;
  for (const int64_t layer : layers) {
    head_output_points(config, layer);  // checks the layer
    const int64_t count = head_count(config.layers[static_cast<size_t>(layer)]);
    target.heads.push_back({layer, 0, count - 1});
  }
  return target;
}

SweepTarget all_but(const ModelConfig& config, const std::vector<HeadId>& heads) {
  std::vector<HeadGroup> kept;
  for (const HeadId& head : heads) kept.push_back({head.layer, head.first, head.last});
  check_heads(config, kept);
  SweepTarget target;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    const int64_t count = head_count(config.layers[static_cast<size_t>(layer)]);
    std::vector<HeadGroup> own;
    for (const HeadGroup& group : kept) {
      if (group.layer == layer) own.push_back(group);
    }
    if (count > 0 && own.empty()) target.heads.push_back({layer, 0, count - 1});
    for (const HeadGroup& other : other_heads(config, own)) {
      target.heads.push_back({other.layer, other.first, other.last});
    }
  }
  return target;
}

std::vector<SweepTarget> one_each(const std::vector<HeadId>& heads) {
  std::vector<SweepTarget> targets;
  for (const HeadId& head : heads) targets.push_back({.heads = {head}});
  return targets;
}

}  // namespace headlens
