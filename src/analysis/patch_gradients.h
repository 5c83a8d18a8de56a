// headlens/analysis: the gradient of a run's difference, layer by layer from the last one back.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <vector>

#include "analysis/judged_run.h"
#include "analysis/paired_run.h"
#include "headlens/model/language_model.h"

namespace headlens {

/// Goes back through one batch of a run; a layer's forward is redone when its turn comes.
class PatchGradients {
 public:
  /// `leaving`: the residual that leaves the last layer, [row, pos, d_model].
  PatchGradients(const LanguageModel& model, const PairedRun& objective, int64_t batch,
                 const Tensor& leaving);

  /// From behind a layer to before it; `entering` is the run's residual there. Returns the
  /// gradients at these sites, as the sites have them; of maps dense, [row, head, q, k]. A site
  /// that nothing judged depends on has none.
  std::map<TapPoint, Tensor> back_through(int64_t layer, const Tensor& entering,
                                          const Prompt& prompt,
                                          const std::vector<TapPoint>& points);

 private:
  const LanguageModel& model_;
  Tensor gradient_;  // [row, pos, d_model]
};

}  // namespace headlens
