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
  EntropyNorm,  ///< entropy of q's row / ln(q + 1)
  Effective,    ///< exp(entropy): how many keys a uniform row of that entropy has
  Peak,         ///< largest entry of q's row
  Gather,       ///< P in the own segment, at summary tokens
  Aggregate     ///< P of q on summary tokens
};
/// Their names in compare.json, in the order of MapFigure.
inline constexpr std::array<const char*, 5> kMapFigureNames = {"entropy_norm", "effective", "peak",
                                                               "gather", "aggregate"};
/// How many there are.
inline constexpr size_t kMapFigures = kMapFigureNames.size();

/// Figures of one head, or means over a group of channels, example by example.
struct HeadValues {
  HeadId head;       ///< or group of channels
  std::string kind;  ///< as HeadScore::kind
  /// [figure, example], figures in the order of MapFigure; NaN where the example cannot have it.
  Eigen::MatrixXd values;
};

/// How values spread: their mean, and quantiles (interpolated linearly between order statistics).
struct Spread {
  int64_t count = 0;  ///< of values
  double mean = 0;    ///< in the figure's own unit
  double q05 = 0;     ///< 5 % quantile
  double q25 = 0;     ///< first quartile
  double q50 = 0;     ///< median
  double q75 = 0;     ///< third quartile
  double q95 = 0;     ///< 95 % quantile
};

/// One head's or layer's spreads, in the order of MapFigure.
using FigureSpreads = std::array<std::optional<Spread>, kMapFigures>;  // absent: no example has it

/// One of the two models.
struct ComparedModel {
  ModelSummary model;                   ///< what it is
  std::vector<HeadValues> heads;        ///< all, by layer
  std::optional<HeadValues> gather;     ///< the chosen Gather head; absent: none was found
  std::optional<HeadValues> aggregate;  ///< the chosen Aggregate head
  /// Filled by compare_models: of each head over its examples, in the order of `heads`, and of each
  /// layer over all examples of all its heads.
  std::vector<FigureSpreads> head_spreads;
  std::vector<FigureSpreads> layer_spreads;  ///< [layer]
};

/// One figure summed up for each example in both models: means with 95 % intervals, and the
/// interval of the mean of the paired differences A - B.
struct PairedDifference {
  std::string summary;  ///< "mean", "gather_head", "aggregate_head", "depth_1" .. (first bin)
  MapFigure figure = MapFigure::EntropyNorm;  ///< which
  int64_t examples = 0;                       ///< those that have it in both models
  Estimate a;                                 ///< of A
  Estimate b;                                 ///< of B
  Estimate difference;                        ///< of A - B, example by example
};

/// Two models on the same examples.
struct Comparison {
  ComparedModel a;                            ///< the first model, A
  ComparedModel b;                            ///< the second, B
  int64_t examples = 0;                       ///< of the task
  int64_t depth_bins = 0;                     ///< that layers were put into
  std::vector<PairedDifference> differences;  ///< by figure and summary
};

}  // namespace headlens
