// headlens/analysis: the main job: every head cut and measured, roles given, the circuit named.
#include "headlens/analysis/gather_aggregate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "analysis/model_summary.h"
#include "analysis/replacements.h"
#include "core/check.h"
#include "headlens/analysis/map_figures.h"
#include "headlens/analysis/work_items.h"

namespace headlens {
namespace {

bool matters(const HeadScore& s, double min_drop) {
  return s.accuracy_drop && s.accuracy_drop->low > 0 && s.accuracy_drop->value >= min_drop;
}

/// Progress of one named stage, passed on as (stage, done, total).
std::function<void(int64_t, int64_t)> stage(const FindOptions& options, const char* name) {
  if (!options.progress) return {};
  return [&options, name](int64_t done, int64_t total) { options.progress(name, done, total); };
}

bool comes_first(const HeadId& a, const HeadId& b) {
  return std::pair(a.layer, a.first) < std::pair(b.layer, b.first);
}

std::vector<HeadId> heads_to_score(const ModelConfig& config, const FindOptions& options) {
  if (options.heads.empty()) return all_heads(config, options.mamba1_groups);
  std::vector<HeadId> heads = options.heads;
  std::sort(heads.begin(), heads.end(), comes_first);
  return heads;
}

/// From the order of the parts to that of the whole.
void restore_order(const std::vector<ObjectivePart>& parts, SweepOutcome& outcome) {
  const std::vector<Verdict> drawn = outcome.verdicts;
  size_t next = 0;
  for (const ObjectivePart& part : parts) {
    for (const int64_t e : part.examples)
      outcome.verdicts.at(static_cast<size_t>(e)) = drawn[next++];
  }
}

/// One find in progress.
struct Finder {
  const LanguageModel& model;
  const Objective& objective;
  const FindOptions& options;
  SweepOutcome base;
  FindResult result;
  /// What the shortlist did on a few examples, which need not be computed again.
  struct {
    std::vector<int64_t> examples;
    std::vector<HeadId> heads;
    SweepResult swept;
  } few;

  SweepResult sweep(const std::vector<HeadId>& heads, CutPositions positions, const char* name) {
    return sweep_of(objective, "", heads, positions, name);
  }
  /// `examples`: which ones, where not all.
  SweepResult sweep_of(const Objective& some, const char* examples,
                       const std::vector<HeadId>& heads, CutPositions positions, const char* name) {
    SweepOptions sweep_options = options.sweep;
    sweep_options.positions = positions;
    sweep_options.progress = stage(options, name);
    SweepResult swept = options.pool == nullptr ? ablation_sweep(model, some, heads, sweep_options)
                                                : pooled_sweep(*options.pool, model, some, heads,
                                                               sweep_options, examples);
    result.out_of_memory += swept.memory.out_of_memory;
    return swept;
  }
  SweepResult sweep_all(const std::vector<HeadId>& heads, const char* name,
                        std::vector<int64_t>& examples);
  std::optional<SweepResult> sweep_rest(const std::vector<HeadId>& heads, const char* name);
  std::vector<HeadScore> score(const std::vector<HeadId>& heads, const char* name);
  ScreenEstimates estimate();
  void measure_shortlist(ScreenEstimates& estimates, ScreenSummary& summary);
  void compare_with(const std::vector<HeadScore>& chosen, ScreenSummary& summary);
  void screen();
  void refine_channels();
  void locate_drops();
  void describe();
  void name_circuit();
  void sample_maps();
};

/// The sweep of heads that the shortlist measured: the examples that it left out are enough. None
/// where it did not, or where a reference set is asked for: the few examples were one of their
/// own.
std::optional<SweepResult> Finder::sweep_rest(const std::vector<HeadId>& heads, const char* name) {
  const AblationMode mode = options.sweep.mode;
  const bool references = mode == AblationMode::Mean || mode == AblationMode::Resample;
  SweepResult known;
  known.base = few.swept.base;
  for (const HeadId& head : heads) {
    const auto at = std::find(few.heads.begin(), few.heads.end(), head);
    if (references || at == few.heads.end()) return {};
    known.variants.push_back(few.swept.variants[static_cast<size_t>(at - few.heads.begin())]);
  }
  const auto others = other_examples(objective.example_count(), few.examples);
  if (heads.empty() || others.empty()) return known;
  const auto rest = objective.part(others);
  return join_examples(few.examples, known,
                       sweep_of(*rest, "the rest", heads, CutPositions::All, name));
}

/// `examples`: how many each head was tested on.
SweepResult Finder::sweep_all(const std::vector<HeadId>& heads, const char* name,
                              std::vector<int64_t>& examples) {
  if (!options.sequential) {
    examples.assign(heads.size(), objective.example_count());
    std::optional<SweepResult> joined = sweep_rest(heads, name);
    return joined ? std::move(*joined) : sweep(heads, CutPositions::All, name);
  }
  SweepOptions sweep_options = options.sweep;
  sweep_options.progress = stage(options, name);
  SequentialResult found =
      sequential_sweep(model, *options.sequential, heads, options.min_drop, sweep_options);
  examples = std::move(found.examples);
  return std::move(found.swept);
}

std::vector<HeadScore> Finder::score(const std::vector<HeadId>& heads, const char* name) {
  std::vector<int64_t> examples;
  const SweepResult swept = sweep_all(heads, name, examples);
  base = swept.base;
  if (options.sequential) restore_order(options.sequential->parts, base);
  std::vector<HeadScore> scores;
  for (size_t i = 0; i < heads.size(); ++i) {
    const SweepOutcome& cut = swept.variants[i];
    const SweepOutcome same{{base.verdicts.begin(), base.verdicts.begin() + examples[i]}};
    HeadScore s;
    s.head = heads[i];
    s.kind = head_kind_name(model.config(), heads[i]);
    s.accuracy = cut.accuracy();
    s.accuracy_drop = accuracy_drop(same, cut);
    s.logprob_drop = logprob_drop(same, cut);
    s.near_ties = cut.near_ties();
    if (examples[i] < objective.example_count()) s.examples = examples[i];
    scores.push_back(std::move(s));
  }
  return scores;
}

ScreenEstimates Finder::estimate() {
  AttributionOptions attribution;
  attribution.mode = options.sweep.mode;
  attribution.placement = options.sweep.placement;
  attribution.max_batch_tokens = options.sweep.max_batch_tokens;
  attribution.progress = stage(options, "screen");
  const auto compute = [&] { return estimate_heads(model, objective, attribution); };
  return options.pool == nullptr ? compute() : pooled_estimates(*options.pool, compute);
}

/// Puts the first heads in the order of what they do on a few examples. What the caller puts in
/// their place belongs to the batches of all.
void Finder::measure_shortlist(ScreenEstimates& estimates, ScreenSummary& summary) {
  const std::vector<size_t> listed =
      shortlist(estimates, *options.screen, objective.example_count());
  if (listed.empty() || options.sweep.replacements) return;
  few.examples = few_examples(objective.example_count());
  const auto part = objective.part(few.examples);
  if (part == nullptr) return;
  for (const size_t i : listed) few.heads.push_back(estimates.heads[i]);
  few.swept = sweep_of(*part, "a few", few.heads, CutPositions::All, "shortlist");
  reorder(estimates, listed, few.swept);
  summary.shortlist = std::ssize(listed);
  summary.shortlist_examples = part->example_count();
}

/// Notes what the screen said of the heads that were ablated, and how far it was right.
void Finder::compare_with(const std::vector<HeadScore>& chosen, ScreenSummary& summary) {
  std::vector<double> place, exact;
  for (size_t i = 0; i < chosen.size(); ++i) {
    HeadScore& s = result.heads[i];
    s.screen_drop = chosen[i].screen_drop;
    s.screen_place = chosen[i].screen_place;
    s.screen_exact = chosen[i].screen_exact;
    place.push_back(-static_cast<double>(*s.screen_place));
    exact.push_back(*s.logprob_drop);
    const bool is_late = *s.screen_place > summary.chosen;
    if (summary.missed && is_late && matters(s, options.min_drop)) {
      summary.missed->push_back(s.head);
    }
  }
  if (exact.size() > 1) summary.rank_correlation = spearman(place, exact);
}

/// Estimates all heads, ablates the first by place, or all, and compares.
void Finder::screen() {
  ScreenEstimates estimates = estimate();
  ScreenSummary summary;
  measure_shortlist(estimates, summary);
  ScreenOptions taken = *options.screen;
  ScreenPlan plan = plan_screen(model.config(), estimates, options.mamba1_groups, taken);
  summary.heads = std::ssize(estimates.heads);
  summary.chosen = std::ssize(plan.chosen);
  if (taken.exact) {  // after the chosen ones all others, one by one
    taken.count = summary.heads;
    plan = plan_screen(model.config(), estimates, options.mamba1_groups, taken);
    summary.missed.emplace();
  }
  std::vector<HeadId> heads;
  for (const HeadScore& s : plan.chosen) heads.push_back(s.head);
  result.heads = score(heads, "heads");
  summary.ablated = std::ssize(heads);
  compare_with(plan.chosen, summary);
  result.screen = std::move(summary);
  std::move(plan.rest.begin(), plan.rest.end(), std::back_inserter(result.heads));
  std::sort(result.heads.begin(), result.heads.end(),
            [](const HeadScore& a, const HeadScore& b) { return comes_first(a.head, b.head); });
}

/// Halves channel groups that matter until single channels are left; a group neither of whose
/// halves matters alone stays whole, since its channels only matter together.
void Finder::refine_channels() {
  std::vector<HeadScore> settled, open = std::move(result.heads);
  while (!open.empty()) {
    std::vector<HeadScore> split;
    std::vector<HeadId> halves;
    for (HeadScore& s : open) {
      if (s.head.first == s.head.last || !matters(s, options.min_drop)) {
        settled.push_back(std::move(s));
        continue;
      }
      const int64_t middle = (s.head.first + s.head.last) / 2;
      halves.push_back({s.head.layer, s.head.first, middle});
      halves.push_back({s.head.layer, middle + 1, s.head.last});
      split.push_back(std::move(s));
    }
    open.clear();
    if (halves.empty()) break;
    std::vector<HeadScore> scored = score(halves, "channels");
    for (size_t i = 0; i < split.size(); ++i) {
      HeadScore &left = scored[2 * i], &right = scored[2 * i + 1];
      if (!matters(left, options.min_drop) && !matters(right, options.min_drop)) {
        settled.push_back(std::move(split[i]));
        continue;
      }
      open.push_back(std::move(left));
      open.push_back(std::move(right));
    }
  }
  std::sort(settled.begin(), settled.end(),
            [](const HeadScore& a, const HeadScore& b) { return comes_first(a.head, b.head); });
  result.heads = std::move(settled);
}

bool has_segments(const Objective& objective) {
  for (int64_t i = 0; i < objective.example_count(); ++i) {
    if (!objective.prompt(i).segments.empty()) return true;
  }
  return false;
}

/// For heads that matter: where is their effect, and at the last prompt token, is it what they read
/// from segments?
void Finder::locate_drops() {
  std::vector<HeadId> heads;
  std::vector<HeadScore*> scores;
  for (HeadScore& s : result.heads) {
    if (!matters(s, options.min_drop)) continue;
    heads.push_back(s.head);
    scores.push_back(&s);
  }
  if (heads.empty()) return;
  const auto measure = [&](CutPositions positions, const char* name,
                           std::optional<double> HeadScore::*drop) {
    const SweepResult swept = sweep(heads, positions, name);
    for (size_t i = 0; i < heads.size(); ++i) {
      scores[i]->*drop = accuracy_drop(swept.base, swept.variants[i]).value;
    }
  };
  measure(CutPositions::FromQuery, "where: last token", &HeadScore::drop_at_query);
  measure(CutPositions::BeforeQuery, "where: before it", &HeadScore::drop_elsewhere);
  if (!has_segments(objective)) return;
  measure(CutPositions::InSegments, "where: segments", &HeadScore::drop_in_segments);
  measure(CutPositions::SegmentsFromQuery, "where: reading them",
          &HeadScore::drop_reading_segments);
}

void Finder::describe() {
  std::vector<HeadId> heads;
  std::vector<HeadScore*> scores;
  for (HeadScore& s : result.heads) {
    if (!s.accuracy_drop) continue;  // no more than screened
    heads.push_back(s.head);
    scores.push_back(&s);
  }
  const auto progress = stage(options, "maps");
  const std::vector<MapFigures> figures =
      options.pool == nullptr
          ? map_figures(model, objective, heads, progress)
          : pooled_map_figures(*options.pool, model, objective, heads, progress);
  for (size_t i = 0; i < heads.size(); ++i) scores[i]->map = figures[i];
}

void Finder::name_circuit() {
  std::vector<const HeadScore*> found;
  for (HeadScore& s : result.heads) {
    s.role = assign_role(s, options.min_drop);
    if (s.role != HeadRole::None) found.push_back(&s);
  }
  std::stable_sort(found.begin(), found.end(), [](const HeadScore* a, const HeadScore* b) {
    return a->accuracy_drop->value > b->accuracy_drop->value;
  });
  for (const HeadScore* s : found) {
    (s->role == HeadRole::Gather ? result.gather : result.aggregate).push_back(s->head);
  }
}

/// Maps of the circuit's heads, then of the heads with the largest drops, over the first example
/// answered right.
void Finder::sample_maps() {
  std::vector<const HeadScore*> order;
  for (const HeadScore& s : result.heads) {
    if (s.accuracy_drop) order.push_back(&s);
  }
  std::stable_sort(order.begin(), order.end(), [](const HeadScore* a, const HeadScore* b) {
    const bool a_named = a->role != HeadRole::None, b_named = b->role != HeadRole::None;
    return std::pair(a_named, a->accuracy_drop->value) >
           std::pair(b_named, b->accuracy_drop->value);
  });
  order.resize(
      std::min(order.size(), static_cast<size_t>(std::max<int64_t>(0, options.map_samples))));
  std::vector<HeadId> heads;
  for (const HeadScore* s : order) heads.push_back(s->head);
  const bool leads = options.pool == nullptr || options.pool->leads();
  if (heads.empty() || !leads) return;  // one forward: not worth sharing
  const auto right = std::find_if(base.verdicts.begin(), base.verdicts.end(),
                                  [](const Verdict& v) { return v.correct; });
  const int64_t example = right == base.verdicts.end() ? 0 : right - base.verdicts.begin();
  result.maps = map_samples(model, objective, example, heads);
  for (size_t i = 0; i < order.size(); ++i) result.maps[i].role = order[i]->role;
}

BaseScore base_score(const SweepOutcome& base) {
  return {accuracy_estimate(base), base.mean_logprob(), base.near_ties(),
          std::ssize(base.verdicts)};
}

}  // namespace

HeadRole assign_role(const HeadScore& s, double min_drop) {
  if (!matters(s, min_drop)) return HeadRole::None;
  const auto is_half = [&](const std::optional<double>& drop) {
    return drop && *drop >= 0.5 * s.accuracy_drop->value;
  };
  const bool aggregate = is_half(s.drop_at_query) && is_half(s.drop_reading_segments);
  const bool gather = is_half(s.drop_in_segments);
  if (aggregate && gather)
    return *s.drop_at_query >= *s.drop_in_segments ? HeadRole::Aggregate : HeadRole::Gather;
  return aggregate ? HeadRole::Aggregate : gather ? HeadRole::Gather : HeadRole::None;
}

FindResult find_gather_aggregate(const LanguageModel& model, const Objective& objective,
                                 const FindOptions& options) {
  HEADLENS_CHECK(TaskError, objective.example_count() > 0,
                 "[find] examples, expected at least 1, got 0");
  c10::NoGradGuard no_grad;
  Finder finder{model, objective, options, {}, {}, {}};
  HEADLENS_CHECK(UsageError, !options.screen || options.heads.empty(),
                 "[find] heads, expected none named where all are screened, got {}",
                 options.heads.size());
  if (options.screen) {
    finder.screen();
  } else {
    finder.result.heads = finder.score(heads_to_score(model.config(), options), "heads");
    if (options.refine_channels) finder.refine_channels();
  }
  finder.locate_drops();
  finder.describe();
  finder.name_circuit();
  finder.sample_maps();
  finder.result.model = model_summary(model);
  finder.result.base = base_score(finder.base);
  finder.result.mode = mode_name(options.sweep.mode);
  finder.result.placement =
      options.sweep.placement == Placement::PostNorm ? "post_norm" : "pre_norm";
  return std::move(finder.result);
}

}  // namespace headlens
