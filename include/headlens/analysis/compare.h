// headlens/analysis: how sharp the maps of two models are on the same examples.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "headlens/analysis/compare_types.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// The two heads of a model that are compared by themselves.
struct ChosenHeads {
  std::optional<HeadId> gather;     ///< absent: none
  std::optional<HeadId> aggregate;  ///< absent: none
};

/// The figures of every head of a model over the objective's examples: one forward a batch, memory
/// as map_figures. `mamba1_groups` channel groups a Mamba-1 layer. HookError for a chosen head that
/// does not exist, TaskError for an objective without examples.
ComparedModel measure_model(const LanguageModel& model, const Objective& objective,
                            const ChosenHeads& chosen, int64_t mamba1_groups = 16,
                            const std::function<void(int64_t, int64_t)>& progress = {});

/// Paired differences A - B of each figure in these summaries, example by example: the mean over
/// all heads (a channel group counts once); the chosen Gather head and the chosen Aggregate head,
/// where both models have one; the mean over the heads of each of `depth_bins` equal shares of the
/// model's layers (layer l of n is in share floor(l bins / n)), where both models have heads there.
/// Intervals are mean +- 1.96 s / sqrt(n) over examples. The two models' examples must be the same,
/// in the same order. ShapeError for unlike numbers of examples, TaskError for fewer than two,
/// UsageError for fewer than one bin. A summary that fewer than two examples have is left out.
Comparison compare_models(ComparedModel a, ComparedModel b, int64_t depth_bins = 4);

/// The spread of the finite values among these; nothing where there are none.
std::optional<Spread> spread_of(std::vector<double> values);
/// That of one figure over a head's examples, and over all examples of all heads of a layer.
std::optional<Spread> spread_of(const HeadValues& head, MapFigure figure);
/// The latter.
std::optional<Spread> spread_of(const ComparedModel& model, int64_t layer, MapFigure figure);

}  // namespace headlens
