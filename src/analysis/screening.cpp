// headlens/analysis: which heads attribution sends on to exact ablation.
#include "headlens/analysis/screening.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/check.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/gather_aggregate.h"

namespace headlens {
namespace {

int64_t chosen_count(int64_t heads, const ScreenOptions& options) {
  HEADLENS_CHECK(UsageError, options.count >= 0,
                 "[screen] heads to ablate, expected 1 or more, got {}", options.count);
  HEADLENS_CHECK(UsageError, options.percent > 0 && options.percent <= 100,
                 "[screen] percentage of heads to ablate, expected above 0 and up to 100, got {}",
                 options.percent);
  const auto share =
      static_cast<int64_t>(std::ceil(static_cast<double>(heads) * options.percent / 100));
  constexpr int64_t kAtLeast = 8;  // a share of a few heads is no margin for the estimates' errors
  return std::min(heads, options.count > 0 ? options.count : std::max(share, kAtLeast));
}

HeadScore estimated(const ModelConfig& config, const ScreenEstimates& estimates, size_t i) {
  HeadScore score;
  score.head = estimates.heads[i];
  score.kind = head_kind_name(config, score.head);
  score.screen_drop = estimates.drop[i];
  score.screen_place = estimates.place[i] + 1;
  const auto measured = estimates.measured.find(i);
  if (measured != estimates.measured.end()) score.screen_exact = measured->second;
  return score;
}

/// [head] its place by falling drop, from 0.
std::vector<int64_t> places_of(const Eigen::VectorXd& drops) {
  std::vector<int64_t> order(static_cast<size_t>(drops.size())), places(order.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return drops[a] > drops[b]; });
  for (size_t i = 0; i < order.size(); ++i) {
    places[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  }
  return places;
}

/// Ranks from 0, ties their mean.
std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t end = first;
    while (end < order.size() && values[order[end]] == values[order[first]]) ++end;
    for (size_t i = first; i < end; ++i)
      ranks[order[i]] = 0.5 * static_cast<double>(first + end - 1);
    first = end;
  }
  return ranks;
}

/// The mean drop of ln p, nats, and its standard error; an error of 0 where one example says none.
struct MeanDrop {
  double mean = 0, error = 0;

  MeanDrop(const SweepOutcome& base, const SweepOutcome& cut) : mean(logprob_drop(base, cut)) {
    const auto n = static_cast<double>(base.verdicts.size());
    if (n < 2) return;
    double squares = 0;
    for (size_t e = 0; e < base.verdicts.size(); ++e) {
      const double off = base.verdicts[e].logprob - cut.verdicts[e].logprob - mean;
      squares += off * off;
    }
    error = std::sqrt(squares / (n - 1) / n);
  }
};

}  // namespace

ScreenEstimates estimate_heads(const LanguageModel& model, const Objective& objective,
                               AttributionOptions options) {
  options.path = GradientPath::AllHeads;
  options.steps = 2;
  options.grad_drop = false;
  options.per_example = false;
  const auto both =
      attribute(model, objective, options, {BackwardRule::Slopes, BackwardRule::Secants});
  const AttributionResult &slopes = both[0], &secants = both[1];
  const std::vector<int64_t> a = places_of(slopes.mean_drop), b = places_of(secants.mean_drop);
  ScreenEstimates found{slopes.heads, {}, std::vector<int64_t>(a.size())};
  std::vector<size_t> order(a.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const auto at = static_cast<Eigen::Index>(i);
    order[i] = i;
    found.drop.push_back(std::max(slopes.mean_drop[at], secants.mean_drop[at]));
  }
  const auto better = [&](size_t i) {
    return std::pair(std::min(a[i], b[i]), std::max(a[i], b[i]));
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t x, size_t y) { return better(x) < better(y); });
  for (size_t i = 0; i < order.size(); ++i) found.place[order[i]] = static_cast<int64_t>(i);
  return found;
}

std::vector<size_t> shortlist(const ScreenEstimates& estimates, const ScreenOptions& options,
                              int64_t examples) {
  const int64_t times = examples >= 96 ? 4 : 2;
  const int64_t heads = std::ssize(estimates.heads), chosen = chosen_count(heads, options);
  if (chosen == heads) return {};
  std::vector<size_t> listed(static_cast<size_t>(std::min(heads, times * chosen)));
  for (size_t i = 0; i < estimates.place.size(); ++i) {
    const auto place = static_cast<size_t>(estimates.place[i]);
    if (place < listed.size()) listed[place] = i;
  }
  return listed;
}

std::vector<int64_t> few_examples(int64_t count) {
  constexpr int64_t kShare = 16, kAtLeast = 16;
  constexpr double kGolden = 0.6180339887498949;
  const int64_t few = std::min(count, std::max((count + kShare - 1) / kShare, kAtLeast));
  std::vector<int64_t> examples;
  for (int64_t i = 0; i < few; ++i) {
    const int64_t first = i * count / few, stretch = (i + 1) * count / few - first;
    const double turn = std::fmod(static_cast<double>(i) * kGolden, 1.0);
    examples.push_back(first + static_cast<int64_t>(turn * static_cast<double>(stretch)));
  }
  return examples;
}

std::vector<int64_t> other_examples(int64_t count, const std::vector<int64_t>& examples) {
  std::vector<int64_t> others;
  for (int64_t e = 0; e < count; ++e) {
    if (!std::binary_search(examples.begin(), examples.end(), e)) others.push_back(e);
  }
  return others;
}

SweepResult join_examples(const std::vector<int64_t>& examples, const SweepResult& first,
                          const SweepResult& others) {
  HEADLENS_CHECK(ShapeError, first.variants.size() == others.variants.size(),
                 "[sweep] variants of other examples, expected {}, got {}", first.variants.size(),
                 others.variants.size());
  const auto join = [&](const SweepOutcome& own, const SweepOutcome& rest) {
    HEADLENS_CHECK(ShapeError, own.verdicts.size() == examples.size(),
                   "[sweep] outcomes, expected of {} examples, got {}", examples.size(),
                   own.verdicts.size());
    SweepOutcome all = rest;
    for (size_t i = 0; i < examples.size(); ++i) {
      all.verdicts.insert(all.verdicts.begin() + examples[i], own.verdicts[i]);
    }
    return all;
  };
  SweepResult all;
  all.memory = others.memory;
  all.base = join(first.base, others.base);
  for (size_t v = 0; v < first.variants.size(); ++v) {
    all.variants.push_back(join(first.variants[v], others.variants[v]));
  }
  return all;
}

void reorder(ScreenEstimates& estimates, const std::vector<size_t>& shortlist,
             const SweepResult& swept) {
  HEADLENS_CHECK(ShapeError, swept.variants.size() == shortlist.size(),
                 "[screen] outcomes of the shortlist, expected {}, got {}", shortlist.size(),
                 swept.variants.size());
  std::vector<double> drops;
  for (size_t i = 0; i < shortlist.size(); ++i) {
    const MeanDrop drop(swept.base, swept.variants[i]);
    const double pull = (estimates.drop[shortlist[i]] - drop.mean) / 3;
    drops.push_back(drop.mean + std::clamp(pull, -2 * drop.error, 2 * drop.error));
    estimates.measured[shortlist[i]] = {std::ssize(swept.base.verdicts), drop.mean,
                                        estimates.place[shortlist[i]] + 1};
  }
  const Eigen::Map<const Eigen::VectorXd> all(drops.data(), std::ssize(drops));
  const std::vector<int64_t> places = places_of(all);
  for (size_t i = 0; i < shortlist.size(); ++i) estimates.place[shortlist[i]] = places[i];
}

ScreenPlan plan_screen(const ModelConfig& config, const ScreenEstimates& estimates, int64_t groups,
                       const ScreenOptions& options) {
  const int64_t count = chosen_count(std::ssize(estimates.heads), options);
  ScreenPlan plan;
  size_t at = 0;  // heads come in the order of the groups that they are in
  for (const HeadId& group : all_heads(config, groups)) {
    bool open = false;  // does the last entry of the rest go on?
    for (int64_t h = group.first; h <= group.last; ++h, ++at) {
      HeadScore own = estimated(config, estimates, at);
      if (estimates.place[at] < count) {
        plan.chosen.push_back(std::move(own));
        open = false;
      } else if (open) {
        HeadScore& whole = plan.rest.back();
        whole.head.last = h;
        *whole.screen_drop += *own.screen_drop;
        whole.screen_place.reset();
      } else {
        plan.rest.push_back(std::move(own));
        open = true;
      }
    }
  }
  std::sort(plan.chosen.begin(), plan.chosen.end(), [](const HeadScore& a, const HeadScore& b) {
    return *a.screen_place < *b.screen_place;
  });
  return plan;
}

double spearman(const std::vector<double>& a, const std::vector<double>& b) {
  HEADLENS_CHECK(ShapeError, a.size() == b.size(), "[spearman] values, expected {} of each, got {}",
                 a.size(), b.size());
  const std::vector<double> ranks_a = ranks_of(a), ranks_b = ranks_of(b);
  const double mean = 0.5 * (static_cast<double>(a.size()) - 1);
  double product = 0, square_a = 0, square_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double da = ranks_a[i] - mean, db = ranks_b[i] - mean;
    product += da * db;
    square_a += da * da;
    square_b += db * db;
  }
  return square_a == 0 || square_b == 0 ? 0 : product / std::sqrt(square_a * square_b);
}

}  // namespace headlens
