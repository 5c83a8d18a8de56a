// headlens/analysis: how many layers a task needs, and what the heads of a cut model carry of it.
#include "headlens/analysis/pruning.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>

#include "analysis/judged_run.h"
#include "core/check.h"
#include "headlens/hooks/interventions.h"

namespace headlens {
namespace {

/// The heads that are off; no tap where none is.
class OffHeads {
 public:
  OffHeads(const ModelConfig& config, const std::vector<HeadId>& heads, Placement placement) {
    HeadList list;
    for (const HeadId& head : heads) list.push_back({head.layer, head.first, head.last});
    if (!list.empty()) cut_ = zero_heads(config, list, {.placement = placement});
  }
  Tap* tap() const { return cut_.get(); }
  void check_touched() const {
    if (cut_) cut_->check_touched();
  }

 private:
  InterventionPtr cut_;
};

using Visit = std::function<void(const JudgedRun& run, Tap* tap)>;

void each_batch(const LanguageModel& model, const Objective& objective, const PruneOptions& options,
                const Visit& visit) {
  const c10::NoGradGuard no_grad;
  const OffHeads off(model.config(), options.off, options.placement);
  const int64_t batches = objective.batch_count();
  for (int64_t b = 0; b < batches; ++b) {
    visit(JudgedRun(model, objective, b), off.tap());
    if (options.progress) options.progress(b + 1, batches);
  }
  if (batches > 0) off.check_touched();
}

SweepOutcome whole_outcome(const LanguageModel& model, const Objective& objective,
                           const PruneOptions& options) {
  SweepOutcome outcome = empty_outcome(objective);
  each_batch(model, objective, options, [&](const JudgedRun& run, Tap* tap) {
    run.store(run.finish(0, run.resid(), tap).front(), outcome);
  });
  return outcome;
}

}  // namespace

LanguageModel first_layers(const LanguageModel& model, int64_t layers) {
  HEADLENS_CHECK(ShapeError, 0 <= layers && layers <= model.layer_count(),
                 "[prune] layers, expected 0 to {}, got {}", model.layer_count(), layers);
  std::vector<int64_t> kept(static_cast<size_t>(layers));
  std::iota(kept.begin(), kept.end(), 0);
  return model.with_layers(kept);
}

std::vector<SweepOutcome> depth_curve(const LanguageModel& model, const Objective& objective,
                                      const PruneOptions& options) {
  const int64_t layers = model.layer_count();
  std::vector<SweepOutcome> curve(static_cast<size_t>(layers) + 1, empty_outcome(objective));
  each_batch(model, objective, options, [&](const JudgedRun& run, Tap* tap) {
    Tensor resid = run.resid();
    run.store(run.finish(layers, resid).front(), curve[0]);
    for (int64_t i = 0; i < layers; ++i) {
      resid = model.run_layers(resid, i, i + 1, tap, nullptr, run.prompt());
      run.store(run.finish(layers, resid).front(), curve[static_cast<size_t>(i) + 1]);
    }
  });
  return curve;
}

std::vector<SweepOutcome> leave_one_layer_out(const LanguageModel& model,
                                              const Objective& objective,
                                              const PruneOptions& options) {
  const int64_t layers = model.layer_count();
  std::vector<SweepOutcome> without(static_cast<size_t>(layers), empty_outcome(objective));
  each_batch(model, objective, options, [&](const JudgedRun& run, Tap* tap) {
    Tensor entering = run.resid();
    for (int64_t i = 0; i < layers; ++i) {
      run.store(run.finish(i + 1, entering, tap).front(), without[static_cast<size_t>(i)]);
      entering = model.run_layers(entering, i, i + 1, tap, nullptr, run.prompt());
    }
  });
  return without;
}

std::optional<int64_t> minimal_depth(const std::vector<std::vector<SweepOutcome>>& curves,
                                     const DepthRule& rule) {
  HEADLENS_CHECK(ShapeError, !curves.empty() && !curves.front().empty(),
                 "[prune] curves, expected one at least, got {}", curves.size());
  for (const auto& curve : curves) {
    HEADLENS_CHECK(ShapeError, curve.size() == curves.front().size(),
                   "[prune] depths of a curve, expected {}, got {}", curves.front().size(),
                   curve.size());
  }
  for (size_t depth = 0; depth < curves.front().size(); ++depth) {
    const bool does_all = std::all_of(curves.begin(), curves.end(), [&](const auto& curve) {
      return curve[depth].accuracy() >= rule.least(curve.back().accuracy());
    });
    if (does_all) return static_cast<int64_t>(depth);
  }
  return std::nullopt;
}

std::vector<ContrastRow> contrast(const LanguageModel& model, int64_t layers,
                                  const std::vector<HeadId>& heads,
                                  const std::vector<const Objective*>& objectives,
                                  const PruneOptions& options) {
  const LanguageModel minimal = first_layers(model, layers);
  PruneOptions of_minimal = options;  // heads of layers that are gone need not be cut
  std::erase_if(of_minimal.off, [&](const HeadId& head) { return head.layer >= layers; });
  PruneOptions cut = of_minimal;
  cut.off.insert(cut.off.end(), heads.begin(), heads.end());
  std::vector<ContrastRow> rows = {{"full", model.layer_count(), {}}, {"minimal", layers, {}}};
  if (!heads.empty()) rows.push_back({"without heads", layers, {}});
  for (const Objective* objective : objectives) {
    rows[0].tasks.push_back(whole_outcome(model, *objective, options));
    rows[1].tasks.push_back(whole_outcome(minimal, *objective, of_minimal));
    if (!heads.empty()) rows[2].tasks.push_back(whole_outcome(minimal, *objective, cut));
  }
  return rows;
}

}  // namespace headlens
