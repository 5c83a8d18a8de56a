// headlens/analysis: an SSM head whose mixing softmax attention takes over, trained in place.
#pragma once

#include <cstdint>
#include <functional>

#include "headlens/core/kept_steps.h"
#include "headlens/model/graft.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// How `train_attention_variant` trains: AdamW, a batch a step.
struct VariantOptions {
  int64_t steps = 300;  ///< a batch of the objective each, in turn
  double rate = 3e-3;   ///< of AdamW, down to 2 % over the last third
  uint64_t seed = 0;    ///< of the first projections
  /// Called with (done, total) steps; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
  KeptSteps steps_kept = {};  ///< 64 training steps are one
};

/// A trained stand-in for an SSM head, beside the untrained one.
struct AttentionVariant {
  LanguageModel fresh;  ///< before the first step, with projections of its own
  LanguageModel
      trained;  ///< graft_attention_head with what was learnt; all else is the model's own
  double first_loss = 0;  ///< mean -ln p of the right choice over the first tenth of the steps,
  double last_loss = 0;   ///< and over the last
};

/// Trains the projections of q, k and v of an attention head in place of the SSM head, everything
/// else frozen, to give the objective's right choices; the objective has answer_log_odds.
/// UsageError for half precision, no steps, a rate that is not above 0, and a head as of
/// graft_attention_head; Error if the loss is no number.
AttentionVariant train_attention_variant(const LanguageModel& model, const Objective& objective,
                                         const HeadPlace& head, const VariantOptions& options = {});

}  // namespace headlens
