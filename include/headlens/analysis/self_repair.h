// headlens/analysis: what other heads pick up when a head is cut, by direct logit attribution.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/core/kept_steps.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// The tokens that tell an example's answer at its last prompt token: the logit difference is
/// logit(answer) - mean of logit(others).
struct AnswerTokens {
  int64_t answer = 0;           ///< token id
  std::vector<int64_t> others;  ///< token ids
};

/// How heads are cut, and what is listed.
struct RepairOptions {
  AblationMode mode = AblationMode::Zero;     ///< zero, mean or resample
  Placement placement = Placement::PostNorm;  ///< where heads are cut
  int64_t mamba1_groups = 16;                 ///< whose sums are reported for a Mamba-1 layer
  int64_t top = 5;                            ///< heads listed, largest change first
  /// Called with (done, total) work units; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
  KeptSteps steps = {};  ///< a batch is a step
};

/// How much a head's direct effect on the logit difference changed.
struct HeadChange {
  HeadId head;      ///< which
  Estimate change;  ///< after the cut less before, logits
};

/// What cutting one head did to the logit difference, cut - clean, mean over examples with 95 %
/// intervals: total = own + heads + mlps + norm.
struct SelfRepair {
  HeadId head;     ///< the one that was cut
  Estimate total;  ///< of the model's output, before a soft cap
  Estimate own;    ///< of the head's own direct effect
  Estimate heads;  ///< sum over all other heads: above 0 where they make up for it
  Estimate mlps;   ///< sum over all MLPs that write to the residual
  Estimate norm;   ///< what the final norm's new scale makes of the new residual
  std::optional<Estimate> repaired;  ///< -(heads) / own; absent where own's interval is not below 0
  std::vector<HeadChange> top;       ///< the other heads whose direct effect changed most
};

/// Cuts each head in turn, at every position, and takes the direct effect of every head on the
/// answer's logit difference at the last prompt token (arXiv 2307.15771): the head's write to the
/// residual, z_h W_O,h, through the final norm with its scale frozen at the clean run, and the
/// unembedding. A head's compensation is its direct effect after the cut less that before.
/// `answers` [example]. HookError for a head that does not exist and for a model with a norm
/// between mixer and residual (Gemma-2, OLMo-2); ShapeError for answers that do not fit; TaskError
/// for an example without another answer, and for fewer than two examples. Costs one forward of
/// every row, and for each head one from its layer on.
std::vector<SelfRepair> self_repair(const LanguageModel& model, const Objective& objective,
                                    const std::vector<AnswerTokens>& answers,
                                    const std::vector<HeadId>& heads,
                                    const RepairOptions& options = {});

}  // namespace headlens
