// headlens/analysis: the taps that cut targets, each in its own copy of a batch's rows.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "analysis/replacements.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/hooks/hook_set.h"
#include "headlens/hooks/mlp_intervention.h"

namespace headlens {

using TargetList = std::vector<const SweepTarget*>;

/// The sites that heads and MLPs of these targets are cut at. HookError for one that does not
/// exist.
std::vector<TapPoint> cut_points(const ModelConfig& config, const TargetList& targets,
                                 Placement placement);
/// Heads and MLPs only: variant v is target v. `positions` bool [row, pos] or undefined, `given` as
/// from `Replacements`.
class TargetTaps {
 public:
  TargetTaps(const ModelConfig& config, const TargetList& targets, const SweepOptions& options,
             const Tensor& positions, const HeadOutputs& given);
  Tap* tap() const { return chain_.get(); }
  void check_touched() const;

 private:
  InterventionPtr heads_;
  std::shared_ptr<MlpIntervention> mlps_;
  std::unique_ptr<TapChain> chain_;
};

/// The map edits of one target in a batch.
std::vector<LayerMapEdit> map_edits(const Objective& objective, const ObjectiveBatch& batch,
                                    const SweepTarget& target);
/// HookError unless the model has these maps and some example of the objective has these entries.
void check_map_cuts(const ModelConfig& config, const Objective& objective,
                    const SweepTarget& target);

}  // namespace headlens
