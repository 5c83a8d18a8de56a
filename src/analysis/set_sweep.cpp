// headlens/analysis: many sets of heads, each cut together, several a forward.
#include "analysis/set_sweep.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>

#include "analysis/batch_rows.h"
#include "core/check.h"

namespace headlens {
namespace {

/// By layer, what each set cuts there. Layers in which none cuts anything are left out.
std::map<int64_t, VariantCuts> cuts_by_layer(const HeadSetList& sets) {
  std::map<int64_t, VariantCuts> cuts;
  for (size_t v = 0; v < sets.size(); ++v) {
    for (const HeadGroup& head : sets[v]) {
      VariantCuts& of_layer = cuts[head.layer];
      of_layer.layer = head.layer;
      of_layer.heads.resize(sets.size());
      of_layer.heads[v].push_back(head);
    }
  }
  return cuts;
}

bool all_alike(const VariantCuts& cuts) {
  return std::all_of(cuts.heads.begin(), cuts.heads.end(),
                     [&](const HeadList& heads) { return heads == cuts.heads.front(); });
}

}  // namespace

SetSweep::SetSweep(const LanguageModel& model, const Objective& objective,
                   const std::vector<int64_t>& layers, const SweepOptions& options)
    : model_(model),
      objective_(objective),
      options_(options),
      replacements_(model, objective, layers, options.mode, options.placement) {
  HEADLENS_CHECK(UsageError, options.max_batch_tokens > 0,
                 "[ablate] tokens a batch, expected at least 1, got {}", options.max_batch_tokens);
  check_replaces(options.mode);
  HEADLENS_CHECK(UsageError, options.positions == CutPositions::All,
                 "[circuit] positions, expected all of them, got {}", "some");
}

std::vector<std::vector<Verdict>> SetSweep::run_some(const JudgedRun& run, const HeadOutputs& given,
                                                     const HeadSetList& sets) const {
  std::vector<VariantCuts> common, own;  // before the first layer where sets differ, and from there
  int64_t fork = model_.layer_count();
  for (const auto& [layer, cuts] : cuts_by_layer(sets)) {
    if (own.empty() && all_alike(cuts)) {
      common.push_back({layer, {cuts.heads.front()}});
    } else {
      if (own.empty()) fork = layer;
      own.push_back(cuts);
    }
  }
  const HeadCutOptions where{options_.placement, {}, /*keep=*/false};
  const auto tap_of = [&](const std::vector<VariantCuts>& cuts) {
    return cuts.empty() ? nullptr : cut_variants(model_.config(), cuts, given, where);
  };
  const InterventionPtr first = tap_of(common), second = tap_of(own);
  const Tensor resid = model_.run_layers(run.resid(), 0, fork, first.get(), nullptr, run.prompt());
  auto verdicts = run.finish(fork, repeated_rows(resid, std::ssize(sets)), second.get());
  for (const InterventionPtr& tap : {first, second}) {
    if (tap) tap->check_touched();
  }
  return verdicts;
}

std::vector<SweepOutcome> SetSweep::run(const HeadSetList& sets) {
  c10::NoGradGuard no_grad;
  std::vector<SweepOutcome> outcomes(sets.size(), empty_outcome(objective_));
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    const JudgedRun run(model_, objective_, b);
    const HeadOutputs given = replacements_.for_batch(b);
    const auto step = static_cast<size_t>(
        std::max<int64_t>(1, options_.max_batch_tokens / run.batch().ids.numel()));
    for (size_t at = 0; at < sets.size(); at += step) {
      const auto from = sets.begin() + static_cast<ptrdiff_t>(at);
      const HeadSetList some(from, from + static_cast<ptrdiff_t>(std::min(step, sets.size() - at)));
      const auto verdicts = run_some(run, given, some);
      for (size_t v = 0; v < some.size(); ++v) run.store(verdicts[v], outcomes[at + v]);
    }
  }
  sets_run_ += std::ssize(sets);
  return outcomes;
}

}  // namespace headlens
