// headlens/cli: what `graft` found, as JSON and text.
#include "cli/graft_output.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "cli/table.h"

namespace headlens::cli {
namespace {

Json outcome_json(const SweepOutcome& outcome) {
  const Estimate accuracy = accuracy_estimate(outcome);
  return {{"accuracy", accuracy.value},
          {"accuracy_ci", {accuracy.low, accuracy.high}},
          {"mean_logprob", outcome.mean_logprob()},
          {"near_ties", outcome.near_ties()}};
}

/// What `after` has more than `before` on the same examples.
Json gain_json(const SweepOutcome& before, const SweepOutcome& after) {
  const Estimate accuracy = accuracy_drop(after, before);
  Json json = {{"accuracy", accuracy.value},
               {"accuracy_ci", {accuracy.low, accuracy.high}},
               {"logprob", logprob_drop(after, before)}};
  if (after.verdicts.size() > 1) {
    const Estimate logprob = logprob_drop_estimate(after, before);
    json["logprob_ci"] = {logprob.low, logprob.high};
  }
  return json;
}

Json place_json(const HeadPlace& place) {
  return {place.layer, place.head};
}

Json row_json(const GraftRow& row, const std::vector<GraftedTask>& tasks) {
  Json json;
  if (row.plan == GraftPlan{}) {
    json = {{"kind", "attention_head"}, {"state", row.state}, {"recipient", Json::array()}};
    json["recipient"].push_back(place_json(row.head));
  } else {
    const bool mixers = !row.plan.layers.empty() && row.plan.layers.front().mixer_only;
    json = {{"kind", row.plan.layers.empty() ? "head"
                     : mixers                ? "mixer"
                                             : "layer"},
            {"donor", Json::array()},
            {"recipient", Json::array()}};
  }
  for (const LayerGraft& graft : row.plan.layers) {
    json["donor"].push_back(graft.donor), json["recipient"].push_back(graft.recipient);
  }
  for (const HeadGraft& graft : row.plan.heads) {
    json["donor"].push_back(place_json(graft.donor));
    json["recipient"].push_back(place_json(graft.recipient));
  }
  json["scores"] = Json::array();
  for (size_t t = 0; t < tasks.size(); ++t) {
    const auto& [grafted, cut] = row.tasks[t];
    json["scores"].push_back({{"task", tasks[t].info.spec},
                              {"grafted", outcome_json(grafted)},
                              {"cut", outcome_json(cut)},
                              {"gain", gain_json(tasks[t].base, grafted)},
                              {"gain_over_cut", gain_json(cut, grafted)}});
  }
  return json;
}

std::string place_text(const HeadPlace& place) {
  return fmt::format("{}.{}", place.layer, place.head);
}

std::string pair_text(const std::string& donor, const std::string& recipient) {
  return donor == recipient ? donor : donor + ":" + recipient;
}

std::string row_name(const GraftRow& row) {
  if (row.plan == GraftPlan{}) {
    return fmt::format("{} attention head {}", row.state, place_text(row.head));
  }
  std::vector<std::string> pairs;
  for (const LayerGraft& graft : row.plan.layers) {
    pairs.push_back(pair_text(std::to_string(graft.donor), std::to_string(graft.recipient)));
  }
  for (const HeadGraft& graft : row.plan.heads) {
    pairs.push_back(pair_text(place_text(graft.donor), place_text(graft.recipient)));
  }
  const char* what = row.plan.layers.empty()              ? "head"
                     : row.plan.layers.front().mixer_only ? "mixer"
                                                          : "layer";
  return fmt::format("{} {}", what, fmt::join(pairs, ","));
}

std::string signed_text(const Estimate& e) {
  return fmt::format("{:+.3f} [{:+.3f}, {:+.3f}]", e.value, e.low, e.high);
}

void add_graft(Table& table, const GraftRow& row, const SweepOutcome& base, size_t task) {
  const auto& [grafted, cut] = row.tasks[task];
  const bool several = grafted.verdicts.size() > 1;
  table.add({row_name(row), fmt::format("{:.3f}", grafted.accuracy()),
             fmt::format("{:.3f}", cut.accuracy()), signed_text(accuracy_drop(grafted, base)),
             several ? signed_text(logprob_drop_estimate(grafted, base)) : ""});
}

}  // namespace

Json graft_json(const GraftFound& found) {
  Json json = {{"tasks", Json::array()}, {"grafts", Json::array()}};
  for (const GraftedTask& task : found.tasks) {
    json["tasks"].push_back({{"task", task.info.spec},
                             {"seed", task.info.seed},
                             {"examples", task.info.examples},
                             {"part", task.knowledge ? "knowledge" : "retrieval"},
                             {"base", outcome_json(task.base)}});
  }
  for (const GraftRow& row : found.rows) json["grafts"].push_back(row_json(row, found.tasks));
  return json;
}

std::string graft_text(const GraftFound& found) {
  std::string text;
  for (size_t t = 0; t < found.tasks.size(); ++t) {
    const GraftedTask& task = found.tasks[t];
    const Estimate base = accuracy_estimate(task.base);
    text += fmt::format("{}{} ({} examples): accuracy {:.3f} [{:.3f},{:.3f}] before\n",
                        t == 0 ? "" : "\n", task.info.spec, task.info.examples, base.value,
                        base.low, base.high);
    Table table({"<graft", "after", "cut", "gain in accuracy [95 %]", "in log-probability [95 %]"});
    for (const GraftRow& row : found.rows) add_graft(table, row, task.base, t);
    text += table.text();
  }
  return text;
}

}  // namespace headlens::cli
