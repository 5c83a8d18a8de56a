// headlens/analysis: what every head is worth, estimated from one forward and one backward.
#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// How a gradient goes back through what is not linear.
enum class BackwardRule {
  Slopes,  ///< the gradient itself
  /// By secants to nothing in place of slopes: norms with their scale held fixed, activations by
  /// act(x) / x, products with half of their change to each factor (arXiv 2202.07304, 2402.05602),
  /// softmax by the pattern recomputed without one key's content, the QK-fix of AtP* (arXiv
  /// 2403.00745). Slopes are next to 0 where a softmax is saturated or a head is most of what a
  /// norm sees, and there say nothing of what taking the head away does. State-space scans, gates
  /// and norms inside mixers, and norms with a mean (GPT-2, GPT-NeoX) keep their slopes.
  Secants
};

/// Where gradients are taken.
enum class GradientPath {
  Clean,     ///< at the clean outputs: one forward, one backward
  AllHeads,  ///< integrated gradients: at points where all heads of the model are between ablated
             ///< and clean; the drops of all heads sum to what ablating them all does
  OwnLayer,  ///< the same for all heads of one layer, one layer after another: a layer's drops sum
             ///< to what ablating it does. Costs layers / 2 times as much
};

/// How an ablation is estimated from gradients: the drop of head h in an example is d_h = sum over
/// positions of (z_h - ablated z_h) . g_h, g_h the gradient at its output z_h (attribution
/// patching). docs/screening.md has the formulas.
struct AttributionOptions {
  AblationMode mode = AblationMode::Zero;     ///< Zero, Mean or Resample, as in SweepOptions
  Placement placement = Placement::PostNorm;  ///< where heads are cut
  /// Linearise the log-odds m of the right choice and read ln p off it,
  /// drop = ln s(m) - ln s(m - d), s the logistic function; else linearise ln p itself, which has
  /// next to no slope where the model is sure.
  bool log_odds = true;
  BackwardRule rule = BackwardRule::Slopes;    ///< through softmax and decays
  GradientPath path = GradientPath::AllHeads;  ///< what the gradient goes through
  int64_t steps = 2;  ///< points of the path, (k + 0.5) / steps of the way from ablated to clean
  /// GradDrop of AtP*, at clean outputs only: cut each layer's part out of the gradient in turn and
  /// take the mean of the |d_h|. Drops cannot cancel, and are never below 0. Costs layers / 2 more
  /// backwards.
  bool grad_drop = false;
  int64_t max_batch_tokens =
      16384;                ///< row x pos of a layer whose forward is redone with gradients
  bool per_example = true;  ///< keep `drops`; else only their means
  /// Called with (done, total) batches; may throw to stop.
  std::function<void(int64_t, int64_t)> progress = {};
};

/// Estimated drops of every head, by gradients: no head was ablated.
struct AttributionResult {
  std::vector<HeadId> heads;  ///< every head and every Mamba-1 channel, layer by layer
  Eigen::VectorXd mean_drop;  ///< [head] estimated drop of ln p of the right choice, nats
  Eigen::MatrixXd drops;      ///< [head, example]; empty unless asked for
  Eigen::VectorXd logprob;    ///< [example] ln p of the right choice, nothing ablated
};

/// Estimates for every head what ablating it alone takes from the right choice's log-probability.
///
/// Memory: the residuals between layers of one batch, and what one layer's forward keeps for
/// `max_batch_tokens`; a layer's forward is redone when the backward comes to it. UsageError for a
/// mode or number it cannot work with, TaskError for an objective without examples or gradient.
AttributionResult attribute(const LanguageModel& model, const Objective& objective,
                            const AttributionOptions& options = {});

/// The same by each of `rules`, in this order, whatever `options.rule` says: they share their
/// forwards.
std::vector<AttributionResult> attribute(const LanguageModel& model, const Objective& objective,
                                         const AttributionOptions& options,
                                         const std::vector<BackwardRule>& rules);

}  // namespace headlens
