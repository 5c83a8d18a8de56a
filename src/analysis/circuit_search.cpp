// headlens/analysis: the smallest sets of heads that carry a task, or break it when cut.
#include "headlens/analysis/circuit_search.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>
#include <tuple>

#include "analysis/kept_outcomes.h"
#include "analysis/paired_means.h"
#include "analysis/set_sweep.h"
#include "core/check.h"
#include "headlens/analysis/work_items.h"

namespace headlens {
namespace {

using HeadIds = std::vector<HeadId>;

HeadGroup group_of(const HeadId& head) {
  return {head.layer, head.first, head.last};
}

HeadList groups_of(const HeadIds& heads) {
  HeadList groups;
  for (const HeadId& head : heads) groups.push_back(group_of(head));
  return groups;
}

bool by_place(const HeadId& a, const HeadId& b) {
  return std::tie(a.layer, a.first) < std::tie(b.layer, b.first);
}

HeadIds sorted(HeadIds heads) {
  std::sort(heads.begin(), heads.end(), by_place);
  return heads;
}

HeadIds with(HeadIds heads, const HeadId& head) {
  heads.push_back(head);
  return heads;
}

HeadIds without(HeadIds heads, const HeadId& head) {
  std::erase(heads, head);
  return heads;
}

HeadIds choose(const HeadIds& from, const std::vector<size_t>& members) {
  HeadIds chosen;
  for (const size_t member : members) chosen.push_back(from[member]);
  return chosen;
}

/// The next set of as many members below `count`; false after the last.
bool next_combination(std::vector<size_t>& members, size_t count) {
  for (size_t i = members.size(); i-- > 0;) {
    if (members[i] + (members.size() - i) >= count) continue;
    std::iota(members.begin() + static_cast<ptrdiff_t>(i), members.end(), members[i] + 1);
    return true;
  }
  return false;
}

/// n over k, or `limit` + 1 where that is more.
int64_t combinations(int64_t n, int64_t k, int64_t limit) {
  int64_t count = 1;
  for (int64_t i = 1; i <= k; ++i) {
    count = count * (n - k + i) / i;
    if (count > limit) return limit + 1;
  }
  return count;
}

/// Whether a set is what stays (the rest of the scope is cut) or what is cut.
enum class Way { Keep, Cut };

class CircuitSearch {
 public:
  CircuitSearch(const LanguageModel& model, const Objective& objective,
                const CircuitOptions& options);
  CircuitResult run();
  const std::vector<Candidate>& candidates() const { return result_.candidates; }

 private:
  /// What the task does with each set kept, or cut: [set].
  std::vector<SweepOutcome> try_sets(const std::vector<HeadIds>& sets, Way way);
  SweepOutcome try_set(const HeadIds& set, Way way) { return try_sets({set}, way).front(); }
  HeadList cut_by(const HeadIds& set, Way way) const;
  double measure(const SweepOutcome& outcome) const;
  double share(const SweepOutcome& outcome) const;
  bool reached(double share, Way way) const {
    return way == Way::Keep ? share >= options_.carry_share : share <= options_.break_share;
  }
  size_t best_of(const std::vector<SweepOutcome>& outcomes, Way way) const;
  SetFigures figures(const SweepOutcome& outcome) const;
  void choose_candidates();
  HeadSet remove_greedily();
  HeadSet add_greedily(Way way);
  SmallestSet smallest(const std::vector<const HeadSet*>& found, Way way, const char* stage);
  void report(const char* stage, int64_t done, int64_t total) const {
    if (options_.progress) options_.progress(stage, done, total);
  }

  const LanguageModel& model_;
  const Objective& objective_;
  const CircuitOptions& options_;
  CircuitResult result_;
  HeadIds candidates_;           // largest single drop first
  std::vector<int64_t> layers_;  // of the scope
  std::unique_ptr<SetSweep> sets_;
  int64_t sets_run_ = 0;
  KeptSteps steps_;
  SweepOutcome base_, none_;
};

CircuitSearch::CircuitSearch(const LanguageModel& model, const Objective& objective,
                             const CircuitOptions& options)
    : model_(model), objective_(objective), options_(options) {
  if (options.pool != nullptr) {
    steps_ = [this](const std::string& key, const std::function<std::string()>& compute) {
      return options_.pool->run({key}, [&](size_t) { return compute(); }).front();
    };
  }
  choose_candidates();
  std::set<int64_t> layers;
  for (const HeadId& head : candidates_) layers.insert(head.layer);
  for (int64_t layer = 0; layer < model.layer_count(); ++layer) {
    if (head_count(model.config().layers[static_cast<size_t>(layer)]) == 0) continue;
    if (options.scope == CircuitScope::Model) layers.insert(layer);
  }
  layers_.assign(layers.begin(), layers.end());
  sets_ = std::make_unique<SetSweep>(model, objective, layers_, options.sweep);
}

void CircuitSearch::choose_candidates() {
  const HeadIds named =
      options_.heads.empty() ? all_heads(model_.config(), options_.mamba1_groups) : options_.heads;
  SweepOptions alone = options_.sweep;
  alone.progress = [&](int64_t done, int64_t total) { report("single heads", done, total); };
  const SweepResult single = options_.pool != nullptr
                                 ? pooled_sweep(*options_.pool, model_, objective_, named, alone)
                                 : ablation_sweep(model_, objective_, named, alone);
  base_ = single.base;
  std::vector<size_t> order(named.size());
  std::iota(order.begin(), order.end(), 0);
  // Accuracy is coarse: among heads that cost as many answers the log-probability decides.
  const auto cost = [&](size_t i) {
    const SweepOutcome& cut = single.variants[i];
    return std::pair(measure(cut), cut.mean_logprob());
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return cost(a) < cost(b); });
  order.resize(std::min(order.size(), static_cast<size_t>(options_.candidates)));
  for (const size_t i : order) {
    candidates_.push_back(named[i]);
    result_.candidates.push_back({named[i], accuracy_drop(base_, single.variants[i]),
                                  mean_estimate(logprob_drops(base_, single.variants[i]))});
  }
}

double CircuitSearch::measure(const SweepOutcome& outcome) const {
  return options_.measure == CircuitMeasure::Accuracy ? outcome.accuracy() : outcome.mean_logprob();
}

double CircuitSearch::share(const SweepOutcome& outcome) const {
  const double floor = measure(none_);
  return (measure(outcome) - floor) / (measure(base_) - floor);
}

/// Of sets kept the one that leaves most, of sets cut the one that leaves least. Accuracy is
/// coarse: among equals the log-probability decides.
size_t CircuitSearch::best_of(const std::vector<SweepOutcome>& outcomes, Way way) const {
  const double sign = way == Way::Keep ? 1 : -1;
  const auto worth = [&](const SweepOutcome& outcome) {
    return std::pair(sign * measure(outcome), sign * outcome.mean_logprob());
  };
  const auto best = std::max_element(
      outcomes.begin(), outcomes.end(),
      [&](const SweepOutcome& a, const SweepOutcome& b) { return worth(a) < worth(b); });
  return static_cast<size_t>(best - outcomes.begin());
}

SetFigures CircuitSearch::figures(const SweepOutcome& outcome) const {
  return {accuracy_estimate(outcome), accuracy_drop(base_, outcome), outcome.mean_logprob(),
          mean_estimate(logprob_drops(base_, outcome)), share(outcome)};
}

HeadList CircuitSearch::cut_by(const HeadIds& set, Way way) const {
  if (way == Way::Cut) return groups_of(set);
  HeadList cut = other_heads(model_.config(), groups_of(set));
  for (const int64_t layer : layers_) {
    const bool named =
        std::any_of(set.begin(), set.end(), [&](const HeadId& h) { return h.layer == layer; });
    const LayerSpec& spec = model_.config().layers[static_cast<size_t>(layer)];
    if (!named) cut.push_back({layer, 0, head_count(spec) - 1});
  }
  return cut;
}

std::vector<SweepOutcome> CircuitSearch::try_sets(const std::vector<HeadIds>& sets, Way way) {
  HeadSetList cuts;
  for (const HeadIds& set : sets) cuts.push_back(cut_by(sorted(set), way));
  sets_run_ += std::ssize(sets);
  const std::string key = fmt::format("sets {} to {}", sets_run_ - std::ssize(sets), sets_run_);
  return kept_outcomes(steps_, key, [&] { return sets_->run(cuts); });
}

/// Takes out the head that costs least, as long as what stays carries the task.
HeadSet CircuitSearch::remove_greedily() {
  HeadSet kept{candidates_, result_.only_candidates, false, {}};
  kept.reached = reached(kept.figures.share, Way::Keep);
  while (kept.reached && !kept.heads.empty()) {
    std::vector<HeadIds> sets;
    for (const HeadId& head : kept.heads) sets.push_back(without(kept.heads, head));
    const std::vector<SweepOutcome> outcomes = try_sets(sets, Way::Keep);
    const size_t best = best_of(outcomes, Way::Keep);
    const SetFigures after = figures(outcomes[best]);
    if (!reached(after.share, Way::Keep)) break;
    kept.steps.push_back({kept.heads[best], after});
    kept.heads = sets[best];
    kept.figures = after;
    report("removal", std::ssize(kept.steps), std::ssize(candidates_));
  }
  kept.heads = sorted(kept.heads);
  return kept;
}

/// Puts in (or cuts) the head that makes most of a difference, until the set carries (or breaks).
HeadSet CircuitSearch::add_greedily(Way way) {
  HeadSet set;
  set.figures = way == Way::Keep ? result_.without : result_.base;
  HeadIds left = candidates_;
  while (!reached(set.figures.share, way) && !left.empty()) {
    std::vector<HeadIds> sets;
    for (const HeadId& head : left) sets.push_back(with(set.heads, head));
    const std::vector<SweepOutcome> outcomes = try_sets(sets, way);
    const size_t best = best_of(outcomes, way);
    set.heads = sets[best];
    set.figures = figures(outcomes[best]);
    set.steps.push_back({left[best], set.figures});
    left = without(left, left[best]);
    report(way == Way::Keep ? "addition" : "cutting", std::ssize(set.steps),
           std::ssize(candidates_));
  }
  set.reached = reached(set.figures.share, way);
  set.heads = sorted(set.heads);
  return set;
}

/// Tries all sets of one head, of two .. as long as `exhaustive_sets` last.
SmallestSet CircuitSearch::smallest(const std::vector<const HeadSet*>& found, Way way,
                                    const char* stage) {
  SmallestSet best;
  for (const HeadSet* set : found) {
    const bool better = !best.reached || set->heads.size() < best.heads.size();
    if (set->reached && better) best = {set->heads, set->figures, true, false};
  }
  const int64_t count = std::ssize(candidates_);
  const int64_t largest = best.reached ? std::ssize(best.heads) - 1 : count;
  int64_t left = options_.exhaustive_sets;
  for (int64_t size = 1; size <= largest; ++size) {
    const int64_t sets = combinations(count, size, left);
    if (sets > left) return best;
    left -= sets;
    std::vector<size_t> members(static_cast<size_t>(size));
    std::iota(members.begin(), members.end(), 0);
    std::vector<HeadIds> all;
    do all.push_back(choose(candidates_, members));
    while (next_combination(members, static_cast<size_t>(count)));
    const std::vector<SweepOutcome> outcomes = try_sets(all, way);
    const size_t good = best_of(outcomes, way);
    report(stage, size, largest);
    if (!reached(share(outcomes[good]), way)) continue;
    return {sorted(all[good]), figures(outcomes[good]), true, true};
  }
  best.proved = true;
  return best;
}

CircuitResult CircuitSearch::run() {
  none_ = try_set({}, Way::Keep);
  HEADLENS_CHECK(TaskError, measure(none_) < measure(base_),
                 "[circuit] the task without the scope's heads, expected less than the untouched "
                 "{:.4f}, got {:.4f}",
                 measure(base_), measure(none_));
  result_.base = figures(base_);
  result_.without = figures(none_);
  result_.only_candidates = figures(try_set(candidates_, Way::Keep));
  result_.removal = remove_greedily();
  result_.addition = add_greedily(Way::Keep);
  result_.carries = smallest({&result_.removal, &result_.addition}, Way::Keep, "smaller circuits");
  result_.cutting = add_greedily(Way::Cut);
  result_.breaks = smallest({&result_.cutting}, Way::Cut, "smaller cuts");
  result_.sets_run = sets_run_;
  return std::move(result_);
}

void check_options(const Objective& objective, const CircuitOptions& options) {
  const auto in_unit = [](double share) { return share >= 0 && share <= 1; };
  HEADLENS_CHECK(UsageError, in_unit(options.carry_share) && in_unit(options.break_share),
                 "[circuit] shares to carry and to break, expected 0 to 1, got {} and {}",
                 options.carry_share, options.break_share);
  HEADLENS_CHECK(UsageError, options.candidates > 0,
                 "[circuit] candidates, expected at least 1, got {}", options.candidates);
  HEADLENS_CHECK(UsageError, options.exhaustive_sets >= 0,
                 "[circuit] sets to prove by, expected at least 0, got {}",
                 options.exhaustive_sets);
  for (size_t i = 0; i < options.heads.size(); ++i) {
    const HeadId& head = options.heads[i];
    for (size_t j = 0; j < i; ++j) {
      const HeadId& other = options.heads[j];
      const bool overlap =
          head.layer == other.layer && head.first <= other.last && other.first <= head.last;
      HEADLENS_CHECK(UsageError, !overlap, "[circuit] head {}.{}, expected once, got it twice",
                     head.layer, head.first);
    }
  }
  HEADLENS_CHECK(TaskError, objective.example_count() >= 2,
                 "[circuit] examples, expected at least 2, got {}", objective.example_count());
}

}  // namespace

std::vector<Candidate> strongest_heads(const LanguageModel& model, const Objective& objective,
                                       const CircuitOptions& options) {
  check_options(objective, options);
  return CircuitSearch(model, objective, options).candidates();
}

CircuitResult circuit_search(const LanguageModel& model, const Objective& objective,
                             const CircuitOptions& options) {
  check_options(objective, options);
  return CircuitSearch(model, objective, options).run();
}

}  // namespace headlens
