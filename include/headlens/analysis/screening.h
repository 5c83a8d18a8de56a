// headlens/analysis: which heads attribution sends on to exact ablation.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/attribution.h"
#include "headlens/analysis/types.h"

namespace headlens {

/// How many heads (single channels, for Mamba-1) are ablated after the screen.
struct ScreenOptions {
  int64_t count = 0;   ///< this many; 0: `percent` of them
  double percent = 5;  ///< rounded up, at least 8
  bool exact =
      false;  ///< ablate all of them all the same, and tell what the screen would have missed
};

/// What attribution says of all heads, by two backward rules that fail in different places.
struct ScreenEstimates {
  std::vector<HeadId> heads;   ///< every head and every Mamba-1 channel, layer by layer
  std::vector<double> drop;    ///< [head] the larger of the two mean drops of ln p, nats
  std::vector<int64_t> place;  ///< [head] from 0: by the better of its two places, then the other
  std::map<size_t, ShortlistMeasure> measured = {};  ///< by head, what `reorder` went by
};

/// Integrated gradients over all heads by slopes and by secants (attribution.h). Of `options` the
/// path, steps and rule are set here.
ScreenEstimates estimate_heads(const LanguageModel& model, const Objective& objective,
                               AttributionOptions options = {});

/// The heads that are measured on a few examples before the choice, as indices into `estimates` by
/// place: four times as many as will be chosen, or twice where a task of fewer than 96 `examples`
/// makes the few a larger share. Empty where all are chosen. UsageError as `plan_screen`.
std::vector<size_t> shortlist(const ScreenEstimates& estimates, const ScreenOptions& options,
                              int64_t examples);

/// Those examples, rising: a sixteenth of `count`, 16 at least (all, where there are fewer). One of
/// each equal stretch, so that every part of a sorted task is there, at offsets that move by the
/// golden section and so keep step with nothing that recurs, as answers A, B, C, D in turn.
std::vector<int64_t> few_examples(int64_t count);

/// 0 .. count - 1 without `examples`, rising.
std::vector<int64_t> other_examples(int64_t count, const std::vector<int64_t>& examples);

/// A sweep's outcomes on all examples, from those on `examples` (rising) and those on the others.
/// ShapeError where the two have unlike variants or `first` unlike examples.
SweepResult join_examples(const std::vector<int64_t>& examples, const SweepResult& first,
                          const SweepResult& others);

/// Puts the shortlist, whose heads `swept` ablated in this order, in the order of its drops of ln p
/// there; the other heads keep their places behind it. Few examples are noisy where estimates are
/// biased, so each drop is moved a third of the way to its estimate, by no more than two of its
/// standard errors.
void reorder(ScreenEstimates& estimates, const std::vector<size_t>& shortlist,
             const SweepResult& swept);

/// The heads of a screened search: those to ablate, and entries for all others.
struct ScreenPlan {
  std::vector<HeadScore> chosen;  ///< by place, with nothing but head, kind and estimate
  std::vector<HeadScore> rest;    ///< all others, not ablated
};

/// UsageError for a count or percentage out of range. Channels that are not chosen are put together
/// in `groups` contiguous groups a layer, cut where a chosen one lies between; a group's estimate
/// is the sum of its channels', and it has no place unless it is one channel.
ScreenPlan plan_screen(const ModelConfig& config, const ScreenEstimates& estimates, int64_t groups,
                       const ScreenOptions& options);

/// Spearman's rank correlation; ties get their mean rank. 0 where one side has no spread.
/// ShapeError for unlike lengths.
double spearman(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace headlens
