// headlens/cli: the claims that set models side by side by parts: C6, grafts; C7's state sizes.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "cli/claims.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/grafting.h"
#include "headlens/core/error.h"
#include "headlens/model/families.h"

namespace headlens::cli {
namespace {

constexpr double kLifts = 0.05;   // accuracy gained that counts as a lift
constexpr double kRelated = 0.5;  // mean cosine of two embeddings' rows, above that of strangers

SweepOutcome whole(Study& study, const std::string& model, const Objective& objective) {
  return sweep_targets(study.model(model), objective, {}, study.sweep(model)).base;
}

std::string dictionary(Study& study, int64_t pairs) {
  return fmt::format(fmt::runtime(study.flags().dictionaries), pairs);
}

/// Mean cosine of the rows of two embeddings of one shape: near 0 for models that began apart.
double likeness(const LanguageModel& a, const LanguageModel& b) {
  const Tensor other = b.embedding().to(a.device());
  return at::cosine_similarity(a.embedding(), other, 1).mean().item<double>();
}

/// Why no graft of the donor can say something about the model; empty: it can.
std::string no_pair(const LanguageModel& model, const LanguageModel& donor) {
  if (model.embedding().sizes() != donor.embedding().sizes()) {
    return "the donor has another width or vocabulary";
  }
  const double cosine = likeness(model, donor);
  if (cosine >= kRelated) return {};
  return fmt::format(
      "not distilled from the donor: their embeddings are strangers (mean cosine {:.2f})", cosine);
}

/// Every layer by itself and, where the numbers fit, every head.
std::vector<std::vector<GraftPlan>> all_plans(const ModelConfig& model, const ModelConfig& donor) {
  std::vector<std::vector<GraftPlan>> plans = {each_layer(model, donor, /*mixer_only=*/false)};
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (head_count(model.layers[i]) != head_count(donor.layers[i])) return plans;
  }
  plans.push_back(each_head(model, donor));
  return plans;
}

std::string plan_name(const GraftPlan& plan) {
  if (!plan.layers.empty()) return fmt::format("layer {}", plan.layers.front().recipient);
  const HeadPlace& place = plan.heads.front().recipient;
  return fmt::format("head {}.{}", place.layer, place.head);
}

/// Of letters and dictionaries, the task where the donor is furthest ahead, and by how much.
std::pair<std::string, double> widest_gap(Study& study, const std::string& model,
                                          const std::string& donor) {
  std::vector<std::string> tasks = {study.flags().retrieval};
  for (const int64_t pairs : study.flags().pairs) tasks.push_back(dictionary(study, pairs));
  std::pair<std::string, double> widest = {tasks.front(), -1};
  for (const std::string& task : tasks) {
    const auto objective = study.search(model, task);
    const double gap =
        whole(study, donor, *objective).accuracy() - whole(study, model, *objective).accuracy();
    if (gap > widest.second) widest = {task, gap};
  }
  return widest;
}

/// The plan that leaves most right on the examples that grafts are chosen on.
GraftPlan best_plan(const std::vector<GraftPlan>& plans, const GraftTrials& trials) {
  size_t best = 0;
  const auto rank = [&](size_t p) {
    const SweepOutcome& outcome = trials.plans[p].grafted;
    return std::pair(outcome.correct(), outcome.mean_logprob());
  };
  for (size_t p = 1; p < plans.size(); ++p) best = rank(p) > rank(best) ? p : best;
  return plans[best];
}

Outcome try_pair(Study& study, const std::string& model, const std::string& donor) {
  const LanguageModel &own = study.model(model), &theirs = study.model(donor);
  const auto [task, gap] = widest_gap(study, model, donor);
  if (gap < kLifts) return not_run(model, fmt::format("{} retrieves no better", donor));
  Outcome outcome{.model = model, .verdict = Verdict::DoesNotHold};
  std::vector<GraftPlan> best;
  for (const auto& plans : all_plans(own.config(), theirs.config())) {
    best.push_back(best_plan(plans, try_grafts(own, theirs, *study.search(model, task), plans)));
    outcome.why += fmt::format("{}{}, the best of {}", outcome.why.empty() ? "" : "; ",
                               plan_name(best.back()), plans.size());
  }
  outcome.why +=
      fmt::format(", of {}, on other examples of {}, where it is furthest ahead", donor, task);
  const GraftTrials fresh = try_grafts(own, theirs, *study.fresh(model, task), best);
  const std::string& facts = study.flags().knowledge;
  const GraftTrials known = try_grafts(own, theirs, *study.fresh(model, facts), best);
  outcome.figures = {{task + ", whole", accuracy_estimate(fresh.base), "0.33"}};
  for (size_t p = 0; p < best.size(); ++p) {
    const auto& [grafted, cut] = fresh.plans[p];
    const Estimate gain = accuracy_drop(grafted, fresh.base);
    if (gain.low >= kLifts) outcome.verdict = Verdict::Holds;
    const std::string name = plan_name(best[p]);
    const auto add = [&](const std::string& what, const Estimate& estimate,
                         const char* paper = "") {
      outcome.figures.push_back({what, estimate, paper});
    };
    add(fmt::format("{}, {} grafted", task, name), accuracy_estimate(grafted), "0.50");
    add(fmt::format("{}, gain with {}", task, name), gain);
    add(fmt::format("{}, without {}", task, name), accuracy_estimate(cut));
    add(fmt::format("{}, gain with {}", facts, name),
        accuracy_drop(known.plans[p].grafted, known.base));
  }
  return outcome;
}

/// The config with every state size 0, and the first that it had; nothing without states.
std::optional<int64_t> take_state_size(ModelConfig& config) {
  std::optional<int64_t> size;
  for (LayerSpec& layer : config.layers) {
    if (!layer.mixer) continue;
    const auto take = [&](auto& mixer) {
      if constexpr (requires { mixer.d_state; }) {
        if (!size) size = mixer.d_state;
        mixer.d_state = 0;
      }
    };
    std::visit(take, *layer.mixer);
  }
  return size;
}

}  // namespace

Outcome grafts(Study& study, const std::string& model) {
  const std::string donor = study.attention_model();
  const std::vector<std::string> kinds = study.kinds(model);
  if (std::find(kinds.begin(), kinds.end(), "attention") != kinds.end()) {
    return not_run(model, "not a model of SSM layers alone");
  }
  if (donor.empty()) return not_run(model, "no model with attention alone to graft from");
  const std::string why = no_pair(study.model(model), study.model(donor));
  if (!why.empty()) return not_run(model, why);
  try {
    return try_pair(study, model, donor);
  } catch (const UsageError& refused) {  // other depths, devices, dtypes
    return not_run(model, refused.what());
  }
}

std::vector<Figure> state_sizes(Study& study, const std::string& model) {
  ModelConfig config = study.identity(model).config;
  const std::optional<int64_t> own = take_state_size(config);
  if (!own) return {};
  std::vector<std::pair<int64_t, std::string>> peers;
  for (const std::string& name : study.flags().models) {
    ModelConfig other = study.identity(name).config;
    const std::optional<int64_t> size = take_state_size(other);
    const bool smaller = size && *size < *own && other == config &&
                         likeness(study.model(model), study.model(name)) >= kRelated;
    if (smaller) peers.push_back({*size, name});
    study.hold(model);
  }
  if (peers.empty()) return {};
  std::sort(peers.begin(), peers.end());
  peers.push_back({*own, model});
  std::vector<std::vector<SweepOutcome>> outcomes;  // [peer][pairs]
  for (const auto& [size, name] : peers) {
    std::vector<SweepOutcome>& own_outcomes = outcomes.emplace_back();
    for (const int64_t pairs : study.flags().pairs) {
      own_outcomes.push_back(whole(study, name, *study.fresh(name, dictionary(study, pairs))));
    }
    study.hold(model);
  }
  std::vector<Figure> figures;
  for (size_t i = 0; i < study.flags().pairs.size(); ++i) {
    const std::string task = dictionary(study, study.flags().pairs[i]);
    for (size_t p = 0; p < peers.size(); ++p) {
      const auto& [size, name] = peers[p];
      figures.push_back({fmt::format("{}, state size {} ({})", task, size, name),
                         accuracy_estimate(outcomes[p][i])});
      if (name == model) continue;
      figures.push_back({fmt::format("{}, drop from state size {} to {}", task, *own, size),
                         accuracy_drop(outcomes.back()[i], outcomes[p][i])});
    }
  }
  return figures;
}

}  // namespace headlens::cli
