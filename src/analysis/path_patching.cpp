// headlens/analysis: what of a head's effect reaches another head, by path patching.
#include "headlens/analysis/path_patching.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <array>
#include <map>

#include "analysis/batch_rows.h"
#include "analysis/batch_slots.h"
#include "analysis/judged_run.h"
#include "analysis/kept_outcomes.h"
#include "analysis/paired_means.h"
#include "analysis/path_taps.h"
#include "analysis/replacements.h"
#include "core/check.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/hooks/hook_set.h"

namespace headlens {
namespace {

enum Path : size_t { kDirect, kTotal, kPaths };

/// Heads of one mixer, whose receivers are patched together.
struct ReceiverGroup {
  MixerSitesOf sites;
  std::vector<size_t> members;  // into the receivers
};

/// The clean run of one batch.
struct CleanRun {
  JudgedRun run;
  std::map<int64_t, Tensor> entering;  // layer -> [row, pos, d_model]
  Tensor leaving;                      // the last layer
  SiteTensors kept;                    // of receivers' mixers, and what senders' mixers write
  Tensor cut_mask;                     // bool [row, pos]; undefined: everywhere
  HeadOutputs given;                   // in place of a sender's output; empty: zeros
};

/// The residuals of one batch with a sender cut.
struct SenderRun {
  Tensor change;                     // of what its mixer writes, [row, pos, d_model]
  std::map<int64_t, Tensor> living;  // layer -> the residual entering it, everything live
  std::vector<Verdict> verdicts;
};

HeadGroup group_of(const HeadId& head) {
  return {head.layer, head.first, head.last};
}

void check_one_mixer(const ModelConfig& config, const HeadId& head) {
  check_heads(config, {group_of(head)});
  const LayerSpec& layer = config.layers[static_cast<size_t>(head.layer)];
  HEADLENS_CHECK(HookError, bank_of(layer, head.first).first == bank_of(layer, head.last).first,
                 "[pairs] heads {}..{} of layer {}, expected those of one mixer, got two",
                 head.first, head.last, head.layer);
}

/// A sender's mixer has to add its output to the residual, as the site shows it.
void check_sender(const ModelConfig& config, const HeadId& head) {
  check_one_mixer(config, head);
  const LayerSpec& layer = config.layers[static_cast<size_t>(head.layer)];
  const bool attention = bank_of(layer, head.first).kind == LayerKind::Attention;
  HEADLENS_CHECK(HookError, !(attention && layer.wiring == Wiring::SharedBlock),
                 "[pairs] sender {}.{}, expected a head that writes to the residual, got one of a "
                 "shared block's attention",
                 head.layer, head.first);
  const bool post_norm = layer.wiring == Wiring::PostNorm || layer.wiring == Wiring::SandwichNorm;
  HEADLENS_CHECK(HookError, attention || !post_norm,
                 "[pairs] sender {}.{}, expected a mixer without a norm behind it, got one with",
                 head.layer, head.first);
}

Tensor cut_mask(const Objective& objective, const ObjectiveBatch& batch, SenderPositions where) {
  if (where == SenderPositions::All) return {};
  if (where == SenderPositions::Segments) return segments_of_rows(objective, batch);
  std::vector<Tensor> masks;
  for (const int64_t example : batch.examples) {
    std::vector<int64_t> ends;
    for (const PromptSegment& s : objective.prompt(example).segments) ends.push_back(s.end);
    masks.push_back(mask_of_positions(batch.ids.size(1), ends));
  }
  return at::stack(masks).index_select(0, example_of_rows(batch));
}

class PathPatcher {
 public:
  PathPatcher(const LanguageModel& model, const Objective& objective,
              const std::vector<HeadId>& senders, const std::vector<HeadId>& receivers,
              const PathOptions& options);
  PathPatching run();

 private:
  void run_batch(int64_t index);
  CleanRun run_clean(int64_t index);
  SenderRun run_sender(const CleanRun& clean, const HeadId& sender) const;
  /// The inputs that the group's mixer gets along the path, at all its input sites.
  SiteTensors patched_inputs(const CleanRun& clean, const SenderRun& cut,
                             const ReceiverGroup& group, Path path) const;
  void patch_receivers(const CleanRun& clean, const SenderRun& cut, const ReceiverGroup& group,
                       size_t sender);
  bool chosen(const MixerSitesOf& sites, TapPoint input) const;
  std::set<TapPoint> sites_to_keep() const;
  SweepOutcome& outcome(size_t sender, size_t receiver, Path path) {
    return outcomes_[(sender * receivers_.size() + receiver) * kPaths + path];
  }
  void advance() {
    ++done_;
    if (options_.progress) options_.progress(done_, total_);
  }

  const LanguageModel& model_;
  const Objective& objective_;
  const std::vector<HeadId>& senders_;
  const std::vector<HeadId>& receivers_;
  const PathOptions& options_;
  Replacements replacements_;
  std::vector<ReceiverGroup> groups_;
  SweepOutcome base_;
  std::vector<SweepOutcome> cut_;       // [sender]
  std::vector<SweepOutcome> answers_;   // [sender], cut on the direct path to the logits
  std::vector<SweepOutcome> outcomes_;  // [sender, receiver, path]
  int64_t last_layer_ = 0;              // of the receivers
  int64_t done_ = 0, total_ = 0;
};

std::vector<int64_t> layers_of(const std::vector<HeadId>& heads) {
  std::vector<int64_t> layers;
  for (const HeadId& head : heads) layers.push_back(head.layer);
  return layers;
}

PathPatcher::PathPatcher(const LanguageModel& model, const Objective& objective,
                         const std::vector<HeadId>& senders, const std::vector<HeadId>& receivers,
                         const PathOptions& options)
    : model_(model),
      objective_(objective),
      senders_(senders),
      receivers_(receivers),
      options_(options),
      replacements_(model, objective, layers_of(senders), options.mode, options.placement),
      base_(empty_outcome(objective)),
      cut_(senders.size(), base_),
      answers_(cut_),
      outcomes_(senders.size() * receivers.size() * kPaths, base_) {
  HEADLENS_CHECK(UsageError, options.max_batch_tokens > 0,
                 "[pairs] tokens a batch, expected at least 1, got {}", options.max_batch_tokens);
  for (size_t r = 0; r < receivers.size(); ++r) {
    const MixerSitesOf sites = mixer_sites(model.config(), receivers[r], options.placement);
    const auto same = std::find_if(groups_.begin(), groups_.end(), [&](const auto& group) {
      return group.sites.outputs == sites.outputs;
    });
    if (same == groups_.end()) {
      groups_.push_back({sites, {r}});
    } else {
      same->members.push_back(r);
    }
    last_layer_ = std::max(last_layer_, receivers[r].layer);
  }
  total_ = objective.batch_count() * std::ssize(senders);
}

std::set<TapPoint> PathPatcher::sites_to_keep() const {
  std::set<TapPoint> points;
  for (const ReceiverGroup& group : groups_) {
    for (const TapPoint point : group.sites.inputs()) points.insert(point);
    for (const TapPoint point : group.sites.outputs) points.insert(point);
    points.insert({Site::SharedOut, group.sites.written.layer});
  }
  for (const HeadId& sender : senders_) {
    points.insert(mixer_sites(model_.config(), sender, options_.placement).written);
  }
  return points;
}

CleanRun PathPatcher::run_clean(int64_t index) {
  CleanRun clean{JudgedRun(model_, objective_, index), {}, {}, {}, {}, {}};
  clean.cut_mask = cut_mask(objective_, clean.run.batch(), options_.positions);
  clean.given = replacements_.for_batch(index);
  KeepSites keep(sites_to_keep());
  std::set<int64_t> needed;
  for (const auto* heads : {&senders_, &receivers_}) {
    for (const int64_t layer : layers_of(*heads)) needed.insert(layer);
  }
  Tensor resid = clean.run.resid();
  int64_t layer = 0;
  for (const int64_t next : needed) {
    resid = model_.run_layers(resid, layer, next, &keep, nullptr, clean.run.prompt());
    clean.entering[layer = next] = resid;
  }
  const int64_t end = model_.layer_count();
  clean.leaving = model_.run_layers(resid, layer, end, &keep, nullptr, clean.run.prompt());
  clean.run.store(clean.run.finish(end, clean.leaving).front(), base_);
  clean.kept = std::move(keep.kept);
  return clean;
}

SenderRun PathPatcher::run_sender(const CleanRun& clean, const HeadId& sender) const {
  const HeadCutOptions where{options_.placement, clean.cut_mask, /*keep=*/false};
  const InterventionPtr cut =
      cut_variants(model_.config(), cuts_of({group_of(sender)}), clean.given, where);
  const TapPoint written = mixer_sites(model_.config(), sender, options_.placement).written;
  KeepSites keep({written});
  TapChain taps({cut.get(), &keep});
  SenderRun out;
  const Prompt prompt = clean.run.prompt();
  int64_t layer = sender.layer + 1;
  Tensor resid = model_.run_layers(clean.entering.at(sender.layer), sender.layer, layer, &taps,
                                   nullptr, prompt);
  const auto precise = at::promote_types(resid.scalar_type(), at::kFloat);
  out.change = keep.kept.at(written).to(precise) - clean.kept.at(written).to(precise);
  for (const auto& [next, entering] : clean.entering) {
    if (next < layer) continue;
    resid = model_.run_layers(resid, layer, next, nullptr, nullptr, prompt);
    out.living[layer = next] = resid;
  }
  out.verdicts = clean.run.finish(layer, resid).front();
  return out;
}

bool PathPatcher::chosen(const MixerSitesOf& sites, TapPoint input) const {
  if (options_.inputs == ReceiverInputs::All) return true;
  const auto& among = options_.inputs == ReceiverInputs::Queries ? sites.asks : sites.stores;
  return std::find(among.begin(), among.end(), input) != among.end();
}

SiteTensors PathPatcher::patched_inputs(const CleanRun& clean, const SenderRun& cut,
                                        const ReceiverGroup& group, Path path) const {
  const int64_t layer = group.sites.written.layer;
  const Tensor& entering = clean.entering.at(layer);
  const Tensor direct = entering + cut.change.to(entering.options());
  // Along the direct path what a shared block gives the mixer behind it is the clean run's.
  const TapPoint shared{Site::SharedOut, layer};
  SiteTensors frozen;
  if (path == kDirect && clean.kept.contains(shared)) frozen[shared] = clean.kept.at(shared);
  PutSites freeze(std::move(frozen));
  const std::vector<TapPoint> inputs = group.sites.inputs();
  KeepSites keep({inputs.begin(), inputs.end()});
  TapChain taps({&freeze, &keep});
  model_.run_layers(path == kDirect ? direct : cut.living.at(layer), layer, layer + 1, &taps,
                    nullptr, clean.run.prompt());
  for (const TapPoint input : inputs) {
    if (!chosen(group.sites, input)) keep.kept[input] = clean.kept.at(input);
  }
  return std::move(keep.kept);
}

void PathPatcher::patch_receivers(const CleanRun& clean, const SenderRun& cut,
                                  const ReceiverGroup& group, size_t sender) {
  const int64_t layer = group.sites.written.layer;
  const int64_t per_variant = clean.run.batch().ids.numel();
  const auto step =
      static_cast<size_t>(std::max<int64_t>(1, options_.max_batch_tokens / per_variant));
  for (const Path path : {kDirect, kTotal}) {
    const SiteTensors inputs = patched_inputs(clean, cut, group, path);
    for (size_t first = 0; first < group.members.size(); first += step) {
      const size_t count = std::min(step, group.members.size() - first);
      std::vector<HeadId> heads;
      for (size_t i = 0; i < count; ++i) heads.push_back(receivers_[group.members[first + i]]);
      PatchHeads patch(group.sites, heads, inputs, clean.kept);
      const Tensor entering = repeated_rows(clean.entering.at(layer), static_cast<int64_t>(count));
      const auto verdicts = clean.run.finish(layer, entering, &patch);
      for (size_t i = 0; i < count; ++i) {
        clean.run.store(verdicts[i], outcome(sender, group.members[first + i], path));
      }
    }
  }
}

void PathPatcher::run_batch(int64_t index) {
  const CleanRun clean = run_clean(index);
  for (size_t s = 0; s < senders_.size(); ++s) {
    const SenderRun cut = run_sender(clean, senders_[s]);
    clean.run.store(cut.verdicts, cut_[s]);
    const Tensor direct = clean.leaving + cut.change.to(clean.leaving.options());
    clean.run.store(clean.run.finish(model_.layer_count(), direct).front(), answers_[s]);
    for (const ReceiverGroup& group : groups_) {
      if (group.sites.written.layer > senders_[s].layer) patch_receivers(clean, cut, group, s);
    }
    advance();
  }
}

PathEffect effect_of(const SweepOutcome& base, const SweepOutcome& patched,
                     const SweepOutcome& receiver, const SweepOutcome& sender) {
  const std::vector<double> drops = logprob_drops(base, patched);
  const auto share = [&](const SweepOutcome& own) -> std::optional<Estimate> {
    const std::vector<double> whole = logprob_drops(base, own);
    if (mean_estimate(whole).low <= 0) return std::nullopt;
    return ratio_estimate(drops, whole);
  };
  return {mean_estimate(drops), accuracy_drop(base, patched), share(receiver), share(sender)};
}

PathEffect effect_on_answer(const SweepOutcome& base, const SweepOutcome& patched,
                            const SweepOutcome& sender) {
  PathEffect effect = effect_of(base, patched, sender, sender);
  effect.of_receiver.reset();
  return effect;
}

HeadDrop drop_of(const HeadId& head, const SweepOutcome& base, const SweepOutcome& cut) {
  return {head, mean_estimate(logprob_drops(base, cut)), accuracy_drop(base, cut)};
}

PathPatching PathPatcher::run() {
  BatchSlots slots;
  slots.add(base_);
  for (auto* outcomes : {&cut_, &answers_, &outcomes_}) {
    for (SweepOutcome& outcome : *outcomes) slots.add(outcome);
  }
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    slots.fill(options_.steps, "pairs", objective_, b, [&] { run_batch(b); });
  }
  SweepOptions alone;
  alone.mode = options_.mode;
  alone.placement = options_.placement;
  alone.max_batch_tokens = options_.max_batch_tokens;
  const SweepResult own = kept_sweep(options_.steps, "receivers alone", [&] {
    return ablation_sweep(model_, objective_, receivers_, alone);
  });
  PathPatching result{base_, {}, {}, {}, {}};
  for (size_t s = 0; s < senders_.size(); ++s) {
    result.senders.push_back(drop_of(senders_[s], base_, cut_[s]));
    result.answers.push_back({senders_[s], effect_on_answer(base_, answers_[s], cut_[s])});
  }
  for (size_t r = 0; r < receivers_.size(); ++r) {
    result.receivers.push_back(drop_of(receivers_[r], own.base, own.variants[r]));
  }
  for (size_t s = 0; s < senders_.size(); ++s) {
    for (size_t r = 0; r < receivers_.size(); ++r) {
      if (receivers_[r].layer <= senders_[s].layer) continue;
      const auto effect = [&](Path path) {
        return effect_of(base_, outcome(s, r, path), own.variants[r], cut_[s]);
      };
      result.pairs.push_back({senders_[s], receivers_[r], effect(kDirect), effect(kTotal)});
    }
  }
  return result;
}

void check_pairs(const std::vector<HeadId>& senders, const std::vector<HeadId>& receivers) {
  const bool any = std::any_of(senders.begin(), senders.end(), [&](const HeadId& s) {
    return std::any_of(receivers.begin(), receivers.end(),
                       [&](const HeadId& r) { return r.layer > s.layer; });
  });
  HEADLENS_CHECK(UsageError, any,
                 "[pairs] receivers, expected one in a layer behind a sender's, got {}", "none");
}

void check_objective(const Objective& objective, SenderPositions where) {
  HEADLENS_CHECK(TaskError, objective.example_count() >= 2,
                 "[pairs] examples, expected at least 2, got {}", objective.example_count());
  if (where == SenderPositions::All) return;
  bool any = false;
  for (int64_t i = 0; i < objective.example_count(); ++i) {
    any = any || !objective.prompt(i).segments.empty();
  }
  HEADLENS_CHECK(TaskError, any, "[pairs] segments of the task, expected some, got {}", "none");
}

}  // namespace

PathPatching path_patching(const LanguageModel& model, const Objective& objective,
                           const std::vector<HeadId>& senders, const std::vector<HeadId>& receivers,
                           const PathOptions& options) {
  c10::NoGradGuard no_grad;
  for (const HeadId& sender : senders) check_sender(model.config(), sender);
  for (const HeadId& receiver : receivers) check_one_mixer(model.config(), receiver);
  check_replaces(options.mode);
  check_pairs(senders, receivers);
  check_objective(objective, options.positions);
  return PathPatcher(model, objective, senders, receivers, options).run();
}

}  // namespace headlens
