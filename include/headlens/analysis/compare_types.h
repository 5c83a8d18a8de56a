// headlens/analysis: what a comparison of two models found: plain numbers, no tensors.
#pragma once

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/types.h"

namespace headlens {

/// Figures that two models are compared by; definitions in docs/metrics.md and docs/compare.md.
enum class MapFigure {
  EntropyNorm,  // entropy of q's row / ln(q + 1)
  Effective,    // exp(entropy): how many keys a uniform row of that entropy has
  Peak,         // largest entry of q's row
  Gather,
  Aggregate
};
inline constexpr std::array<const char*, 5> kMapFigureNames = {"entropy_norm", "effective", "peak",
                                                               "gather", "aggregate"};
inline constexpr size_t kMapFigures = kMapFigureNames.size();

/// Figures of one head, or means over a group of channels, example by example.
struct HeadValues {
  HeadId head;
  std::string kind;  // as HeadScore::kind
  /// [figure, example], figures in the order of MapFigure; NaN where the example cannot have it.
  Eigen::MatrixXd values;
};

/// How values spread: their mean, and quantiles (interpolated linearly between order statistics).
struct Spread {
  int64_t count = 0;
  double mean = 0;
  double q05 = 0, q25 = 0, q50 = 0, q75 = 0, q95 = 0;
};

using FigureSpreads = std::array<std::optional<Spread>, kMapFigures>;  // absent: no example has it

/// One of the two models.
struct ComparedModel {
  ModelSummary model;
  std::vector<HeadValues> heads;        // all, by layer
  std::optional<HeadValues> gather;     // the chosen Gather head; absent: none was found
  std::optional<HeadValues> aggregate;  // the chosen Aggregate head
  /// Filled by compare_models: of each head over its examples, in the order of `heads`, and of each
  /// layer over all examples of all its heads.
  std::vector<FigureSpreads> head_spreads;
  std::vector<FigureSpreads> layer_spreads;
};

/// One figure summed up for each example in both models: means with 95 % intervals, and the
/// interval of the mean of the paired differences A - B.
struct PairedDifference {
  std::string summary;  // "mean", "gather_head", "aggregate_head", "depth_1" .. (first bin)
  MapFigure figure = MapFigure::EntropyNorm;
  int64_t examples = 0;  // those that have it in both models
  Estimate a, b, difference;
};

/// Two models on the same examples.
struct Comparison {
  ComparedModel a, b;
  int64_t examples = 0;
  int64_t depth_bins = 0;
  std::vector<PairedDifference> differences;
};

}  // namespace headlens
