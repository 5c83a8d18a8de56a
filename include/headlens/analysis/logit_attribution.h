// headlens/analysis: what of the answer's logit difference each part of a model writes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "headlens/analysis/self_repair.h"
#include "headlens/analysis/types.h"
#include "headlens/core/kept_steps.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// What one head, or the sum of a group of channels, writes into the logit difference.
struct HeadEffect {
  HeadId head;       ///< or group of channels
  std::string kind;  ///< as HeadScore::kind
  Estimate effect;   ///< logits
};

/// What a layer's MLP, or the biases of its mixers' output projections, write into it.
struct LayerEffect {
  int64_t layer = 0;  ///< from 0
  Estimate effect;    ///< logits
};

/// The residual that leaves a layer, read through the final norm and the unembedding.
struct LensLayer {
  int64_t layer = -1;   ///< -1: what enters the first layer
  Estimate difference;  ///< the logit difference, before a soft cap
  double accuracy = 0;  ///< share of examples whose answer is above every other choice
  Estimate logprob;     ///< of the answer's token among the whole vocabulary, nats
};

/// Means over examples with 95 % intervals, logits: difference = embedding + norm_bias + the sums
/// of heads, mlps and biases.
struct LogitAttribution {
  Estimate difference;  ///< the model's own, before a soft cap
  Estimate
      embedding;  ///< what enters the first layer: tokens, and positions where they are learned
  Estimate norm_bias;  ///< the final norm's bias through the unembedding; 0 where it has none
  std::vector<HeadEffect> heads;    ///< by layer
  std::vector<LayerEffect> mlps;    ///< layers whose MLP writes to the residual
  std::vector<LayerEffect> biases;  ///< layers with heads that do; all 0 without a bias
  std::vector<LensLayer> lens;      ///< the layers in order, -1 first
};

/// How logits are attributed.
struct LogitOptions {
  int64_t mamba1_groups = 16;  ///< whose sums are reported for a Mamba-1 layer
  /// Called with (done, total) batches; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
  KeptSteps steps = {};  ///< a batch is a step
};

/// Direct logit attribution (arXiv 2211.00593, "Interpretability in the wild", 3.1) at the last
/// prompt token and the logit lens. The difference is logit(answer) - mean logit(others). A head's
/// share is z_h W_O,h through the final norm with its scale frozen at this run, and the unembedding
/// on that direction; a state-space head's z_h is behind the gated norm, whose scale is then frozen
/// too. `answers` [example]. A head that does not write to the residual itself (attention of a
/// shared block) is left out. HookError for a model with a norm between mixer and residual
/// (Gemma-2, OLMo-2); ShapeError and TaskError for answers as self_repair. One forward a batch.
LogitAttribution attribute_logits(const LanguageModel& model, const Objective& objective,
                                  const std::vector<AnswerTokens>& answers,
                                  const LogitOptions& options = {});

}  // namespace headlens
