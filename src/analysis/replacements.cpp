// headlens/analysis: what a cut head's output is replaced by: nothing, a mean, another example's.
#include "analysis/replacements.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "analysis/batch_rows.h"
#include "analysis/output_tap.h"
#include "core/check.h"
#include "headlens/hooks/mean_activations.h"

namespace headlens {
namespace {

/// Runs the layers up to the last of `points`; what leaves them is dropped.
void run_for(const LanguageModel& model, const Tensor& ids, const std::vector<TapPoint>& points,
             Tap& tap) {
  int64_t end = 0;
  for (const TapPoint point : points) end = std::max(end, point.layer + 1);
  const Tensor resid = model.embed(ids);
  model.run_layers(resid, 0, end, &tap, nullptr, model.prompt_of(resid));
}

std::vector<TapPoint> points_of(const ModelConfig& config, const std::vector<int64_t>& layers,
                                Placement placement) {
  std::vector<TapPoint> points;
  for (const int64_t layer : layers) {
    const auto own = head_output_points(config, layer, placement);
    points.insert(points.end(), own.begin(), own.end());
  }
  return points;
}

}  // namespace

Replacements::Replacements(const LanguageModel& model, const Objective& objective,
                           const std::vector<int64_t>& layers, AblationMode mode,
                           Placement placement)
    : Replacements(model, objective, points_of(model.config(), layers, placement), mode) {}

Replacements::Replacements(const LanguageModel& model, const Objective& objective,
                           std::vector<TapPoint> points, AblationMode mode)
    : model_(model), objective_(objective), points_(std::move(points)), mode_(mode) {
  if (points_.empty()) return;
  if (mode == AblationMode::Mean) take_means();
  if (mode == AblationMode::Resample) list_places();
}

void Replacements::take_means() {
  MeanActivations tap(points_);
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective_.batch(b);
    Tensor in_prompt = at::zeros(batch.ids.sizes(), at::kBool);  // each prompt once
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      const int64_t length = objective_.prompt(batch.examples[i]).length;
      in_prompt[batch.example_rows[i]].slice(0, 0, length).fill_(true);
    }
    tap.set_valid(in_prompt);
    run_for(model_, batch.ids, points_, tap);
  }
  means_ = tap.point_means();
}

void Replacements::list_places() {
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    const ObjectiveBatch& batch = objective_.batch(b);
    first_of_batch_.push_back(places_.size());
    for (size_t i = 0; i < batch.examples.size(); ++i) {
      places_.push_back({batch.examples[i], b, batch.example_rows[i]});
    }
  }
  HEADLENS_CHECK(TaskError, places_.size() >= 2,
                 "[ablate] examples to resample from, expected at least 2, got {}", places_.size());
}

Tensor Replacements::prompt_of(const Place& place) const {
  const int64_t length = objective_.prompt(place.example).length;
  return objective_.batch(place.batch).ids[place.row].slice(0, 0, length);
}

HeadOutputs Replacements::for_batch(int64_t index) const {
  if (points_.empty() || mode_ != AblationMode::Resample) return means_;
  const ObjectiveBatch& batch = objective_.batch(index);
  const Tensor example_of = example_of_rows(batch);  // [row]
  std::vector<Tensor> prompts;                       // of the example after each of the batch's
  std::vector<int64_t> last;
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const size_t next = (first_of_batch_[static_cast<size_t>(index)] + i + 1) % places_.size();
    prompts.push_back(prompt_of(places_[next]));
    last.push_back(prompts.back().size(0) - 1);
  }
  OutputTap tap(points_);
  run_for(model_, at::pad_sequence(prompts, /*batch_first=*/true), points_, tap);

  const Tensor donor_last = at::tensor(last, at::kLong).index_select(0, example_of).unsqueeze(1);
  const Tensor shift = donor_last - query_of_rows(objective_, batch).unsqueeze(1);  // [row, 1]
  const Tensor position = at::arange(batch.ids.size(1), at::kLong) + shift;         // [row, pos]
  const Tensor row = example_of.unsqueeze(1);
  const Tensor from = position.clamp_min(0).minimum(donor_last);
  for (auto& [point, outputs] : tap.outputs) {
    outputs = outputs.index({row.to(outputs.device()), from.to(outputs.device())});
    if (outputs.dim() == 3) outputs = outputs.unsqueeze(-1);  // Mamba-1: width 1
  }
  return std::move(tap.outputs);
}

HeadReplacement put_given(HeadOutputs given) {
  if (given.empty()) {
    return [](const Tensor& outputs, TapPoint) { return at::zeros({1}, outputs.options()); };
  }
  return [given = std::move(given)](const Tensor& outputs, TapPoint point) {
    const Tensor& rows = given.at(point);
    if (rows.dim() == 2) return rows;  // the same everywhere
    return rows.repeat({outputs.size(0) / rows.size(0), 1, 1, 1});
  };
}

void check_replaces(AblationMode mode) {
  HEADLENS_CHECK(UsageError, mode != AblationMode::Scale,
                 "[ablate] mode, expected zero, mean or resample, got {}", "scale");
}

InterventionPtr cut_variants(const ModelConfig& config, const std::vector<VariantCuts>& cuts,
                             HeadOutputs given, const HeadCutOptions& where) {
  return std::make_shared<HeadIntervention>(config, cuts, put_given(std::move(given)), where);
}

const char* mode_name(AblationMode mode) {
  switch (mode) {
    case AblationMode::Zero:
      return "zero";
    case AblationMode::Mean:
      return "mean";
    case AblationMode::Resample:
      return "resample";
    case AblationMode::Scale:
      break;
  }
  return "scale";
}

}  // namespace headlens
