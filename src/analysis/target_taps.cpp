// headlens/analysis: the taps that cut targets, each in its own copy of a batch's rows.
#include "analysis/target_taps.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>

#include "analysis/batch_rows.h"
#include "core/check.h"

namespace headlens {
namespace {

HeadGroup group_of(const HeadId& head) {
  return {head.layer, head.first, head.last};
}

/// The heads of each target, layer by layer.
std::vector<VariantCuts> variant_cuts(const TargetList& targets) {
  std::map<int64_t, VariantCuts> layers;
  for (size_t v = 0; v < targets.size(); ++v) {
    for (const HeadId& head : targets[v]->heads) {
      VariantCuts& cuts = layers[head.layer];
      cuts.layer = head.layer;
      cuts.heads.resize(targets.size());
      cuts.heads[v].push_back(group_of(head));
    }
  }
  std::vector<VariantCuts> all;
  for (auto& [layer, cuts] : layers) all.push_back(std::move(cuts));
  return all;
}

std::map<int64_t, std::vector<bool>> mlp_cuts(const TargetList& targets) {
  std::map<int64_t, std::vector<bool>> layers;
  for (size_t v = 0; v < targets.size(); ++v) {
    for (const int64_t layer : targets[v]->mlps) {
      layers[layer].resize(targets.size());
      layers[layer][v] = true;
    }
  }
  return layers;
}

/// bool [pos]: the keys that a cut hides in one prompt.
Tensor keys_of(const PromptInfo& prompt, const MapCut& cut, int64_t pos) {
  Tensor mask = at::zeros({pos}, at::kBool);
  if (!cut.keys.empty()) {
    mask.slice(0, 0, prompt.length).copy_(mask_of_positions(prompt.length, cut.keys));
    return mask;
  }
  for (size_t s = 0; s < prompt.segments.size(); ++s) {
    const auto index = static_cast<int64_t>(s);
    const bool named = cut.segments.empty() || std::find(cut.segments.begin(), cut.segments.end(),
                                                         index) != cut.segments.end();
    if (named) mask.slice(0, prompt.segments[s].start, prompt.segments[s].end + 1).fill_(true);
  }
  return mask;
}

}  // namespace

std::vector<TapPoint> cut_points(const ModelConfig& config, const TargetList& targets,
                                 Placement placement) {
  std::set<TapPoint> points;
  for (const SweepTarget* target : targets) {
    for (const HeadId& head : target->heads) {
      check_heads(config, {group_of(head)});
      const auto own = head_output_points(config, head.layer, placement);
      points.insert(own.begin(), own.end());
    }
    check_mlps(config, target->mlps);
    for (const int64_t layer : target->mlps) points.insert({Site::MlpOut, layer});
  }
  return {points.begin(), points.end()};
}

TargetTaps::TargetTaps(const ModelConfig& config, const TargetList& targets,
                       const SweepOptions& options, const Tensor& positions,
                       const HeadOutputs& given) {
  HeadReplacement put = put_given(given);
  if (options.mode == AblationMode::Scale) {
    put = [factor = options.factor](const Tensor& outputs, TapPoint) { return outputs * factor; };
  }
  const auto heads = variant_cuts(targets);
  const auto mlps = mlp_cuts(targets);
  if (!heads.empty()) {
    const HeadCutOptions where{options.placement, positions, /*keep=*/false};
    heads_ = std::make_shared<HeadIntervention>(config, heads, put, where);
  }
  if (!mlps.empty()) mlps_ = std::make_shared<MlpIntervention>(config, mlps, put, positions);
  chain_ = std::make_unique<TapChain>(std::vector<Tap*>{heads_.get(), mlps_.get()});
}

void TargetTaps::check_touched() const {
  if (heads_) heads_->check_touched();
  if (mlps_) mlps_->check_touched();
}

std::vector<LayerMapEdit> map_edits(const Objective& objective, const ObjectiveBatch& batch,
                                    const SweepTarget& target) {
  const int64_t pos = batch.ids.size(1);
  const Tensor rows = example_of_rows(batch);
  std::vector<LayerMapEdit> edits;
  for (const MapCut& cut : target.maps) {
    std::vector<Tensor> keys;
    for (const int64_t example : batch.examples) {
      keys.push_back(keys_of(objective.prompt(example), cut, pos));
    }
    MapEdit edit;
    edit.heads = cut.heads;
    edit.keys = at::stack(keys).index_select(0, rows);
    edit.renormalize = cut.renormalize;
    if (cut.from_query) {
      edit.rows = at::arange(pos, at::kLong).ge(query_of_rows(objective, batch).unsqueeze(1));
    }
    edits.push_back({cut.layer, std::move(edit)});
  }
  return edits;
}

void check_map_cuts(const ModelConfig& config, const Objective& objective,
                    const SweepTarget& target) {
  if (target.maps.empty()) return;
  std::vector<LayerMapEdit> edits;
  for (const MapCut& cut : target.maps) edits.push_back({cut.layer, {.heads = cut.heads}});
  const MapIntervention checked(config, edits);
  for (const MapCut& cut : target.maps) {
    bool any = false;
    for (int64_t i = 0; i < objective.example_count() && !any; ++i) {
      const PromptInfo& prompt = objective.prompt(i);
      any = keys_of(prompt, cut, prompt.length).any().item<bool>();
    }
    HEADLENS_CHECK(
        HookError, any,
        "[ablate] map entries of layer {}, expected some in at least one example, got {}",
        cut.layer, "none (has the task these segments?)");
  }
}

}  // namespace headlens
