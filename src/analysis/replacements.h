// headlens/analysis: what a cut head's output is replaced by: nothing, a mean, another example's.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "headlens/hooks/interventions.h"
#include "headlens/model/language_model.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Finds, for each batch of an objective, what takes the place of the outputs of cut heads.
class Replacements {
 public:
  /// `layers`: those where heads will be cut. UsageError for a mode other than zero, mean and
  /// resample, TaskError for resampling with fewer than two examples.
  Replacements(const LanguageModel& model, const Objective& objective,
               const std::vector<int64_t>& layers, AblationMode mode, Placement placement);

  /// The same for any sites: those of heads, and MlpOut as d_model channels of width 1.
  Replacements(const LanguageModel& model, const Objective& objective, std::vector<TapPoint> points,
               AblationMode mode);
  /// [head, width] or [row, pos, head, width] at each site of these layers; empty: zeros.
  HeadOutputs for_batch(int64_t batch) const;

 private:
  /// Where the prompt of an example stands.
  struct Place {
    int64_t example, batch, row;
  };
  void take_means();
  void list_places();
  Tensor prompt_of(const Place& place) const;  // [pos]

  const LanguageModel& model_;
  const Objective& objective_;
  std::vector<TapPoint> points_;
  AblationMode mode_;
  HeadOutputs means_;
  std::vector<Place> places_;           // every example, in the order of the batches
  std::vector<size_t> first_of_batch_;  // into places_
};

/// "zero", "mean", "resample", "scale".
const char* mode_name(AblationMode mode);

/// What puts `given`, as `for_batch` returns it, in place of outputs; zeros where it is empty.
HeadReplacement put_given(HeadOutputs given);

/// UsageError for Scale, which puts nothing in place: `cut_variants` would give zeros.
void check_replaces(AblationMode mode);

/// The tap that cuts `cuts`, each variant its own heads, `given` as `for_batch` returns it.
InterventionPtr cut_variants(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                             HeadOutputs given, const HeadCutOptions& where);

}  // namespace headlens
