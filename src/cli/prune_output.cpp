// headlens/cli: what `prune` found, as JSON, CSV and text.
#include "cli/prune_output.h"

#include <fmt/ranges.h>

#include "cli/circuit_output.h"
#include "cli/heads.h"
#include "cli/table.h"

namespace headlens::cli {
namespace {

Json score_json(const PrunedTask& task, const SweepOutcome& outcome) {
  const Estimate accuracy = accuracy_estimate(outcome);
  return {{"task", task.info.spec},
          {"accuracy", accuracy.value},
          {"accuracy_ci", {accuracy.low, accuracy.high}},
          {"mean_logprob", outcome.mean_logprob()},
          {"near_ties", outcome.near_ties()}};
}

/// [task]: what `outcome_of` picks of each.
template <typename Pick>
Json scores_json(const PruneFound& found, Pick outcome_of) {
  Json scores = Json::array();
  for (size_t t = 0; t < found.tasks.size(); ++t) {
    scores.push_back(score_json(found.tasks[t], outcome_of(t)));
  }
  return scores;
}

Json tasks_json(const PruneFound& found) {
  Json tasks = Json::array();
  for (const PrunedTask& task : found.tasks) {
    Json entry = {{"task", task.info.spec},
                  {"seed", task.info.seed},
                  {"examples", task.info.examples},
                  {"chance", task.chance},
                  {"part", task.against ? "against" : "retrieval"}};
    if (!task.against) entry["least_accuracy"] = found.rule.least(task.curve.back().accuracy());
    tasks.push_back(std::move(entry));
  }
  return tasks;
}

Json contrast_json(const PruneFound& found) {
  Json heads;
  if (found.given.empty()) {
    heads = {{"gather", heads_json(found.gather)}, {"aggregate", heads_json(found.aggregate)}};
  } else {
    heads = {{"given", heads_json(found.given)}};
  }
  Json rows = Json::array();
  for (const ContrastRow& row : found.contrast) {
    rows.push_back({{"model", row.name},
                    {"layers", row.layers},
                    {"scores", scores_json(found, [&](size_t t) { return row.tasks.at(t); })}});
  }
  return {{"heads", std::move(heads)}, {"rows", std::move(rows)}};
}

/// A spec holds commas.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

std::string csv_line(const char* part, const std::string& model, int64_t layers,
                     const PrunedTask& task, const SweepOutcome& outcome) {
  const Estimate accuracy = accuracy_estimate(outcome);
  return fmt::format("{},{},{},{},{},{},{},{},{},{}\n", part, model, layers, quoted(task.info.spec),
                     accuracy.value, accuracy.low, accuracy.high, outcome.mean_logprob(),
                     outcome.near_ties(), outcome.verdicts.size());
}

/// A column a task, behind one of names.
Table tasks_table(const PruneFound& found, const char* first) {
  std::vector<std::string> columns = {std::string("<") + first};
  for (const PrunedTask& task : found.tasks) columns.push_back(task.info.spec);
  return Table(std::move(columns));
}

template <typename Pick>
void add_row(Table& table, const PruneFound& found, const Cell& name, Pick outcome_of) {
  std::vector<Cell> cells = {name};
  for (size_t t = 0; t < found.tasks.size(); ++t) {
    const Estimate a = accuracy_estimate(outcome_of(t));
    cells.emplace_back(fmt::format("{:.3f} {}", a.value, interval_text(a)));
  }
  table.add(std::move(cells));
}

std::string names(const std::vector<HeadId>& heads) {
  std::vector<std::string> words;
  for (const HeadId& head : heads) words.push_back(head_text(head));
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

std::string contrast_text(const PruneFound& found) {
  Table table = tasks_table(found, "model");
  for (const ContrastRow& one : found.contrast) {
    add_row(table, found, one.name, [&](size_t t) { return one.tasks.at(t); });
  }
  const std::string text = table.text();
  if (!found.given.empty()) return text + fmt::format("heads given: {}\n", names(found.given));
  return text + fmt::format("heads found in the minimal model: gather {}; aggregate {}\n",
                            names(found.gather), names(found.aggregate));
}

std::string minimal_line(const PruneFound& found) {
  const std::string rule =
      found.rule.threshold
          ? fmt::format("accuracy of at least {}", *found.rule.threshold)
          : fmt::format("accuracy within {} of the whole model's", found.rule.tolerance);
  if (!found.minimal) return fmt::format("no depth has an {}\n", rule);
  return fmt::format("minimal model: the first {} of {} layers, the fewest with {}\n",
                     *found.minimal, found.layers, rule);
}

}  // namespace

Json prune_json(const PruneFound& found) {
  Json json = {{"tasks", tasks_json(found)}};
  if (found.rule.threshold) {
    json["threshold"] = *found.rule.threshold;
  } else {
    json["tolerance"] = found.rule.tolerance;
  }
  json["off"] = heads_json(found.off);
  json["curve"] = Json::array();
  for (size_t depth = 0; depth <= static_cast<size_t>(found.layers); ++depth) {
    json["curve"].push_back({{"layers", depth}, {"scores", scores_json(found, [&](size_t t) {
                                                   return found.tasks[t].curve[depth];
                                                 })}});
  }
  for (size_t layer = 0; layer < found.tasks.front().without_layer.size(); ++layer) {
    json["without_layer"].push_back(
        {{"layer", layer}, {"scores", scores_json(found, [&](size_t t) {
                              return found.tasks[t].without_layer[layer];
                            })}});
  }
  if (found.minimal) {
    json["minimal"] = {{"layers", *found.minimal},
                       {"weight_bytes", found.minimal_bytes},
                       {"full_weight_bytes", found.full_bytes}};
  }
  if (!found.contrast.empty()) json["contrast"] = contrast_json(found);
  return json;
}

std::string prune_csv(const PruneFound& found) {
  std::string text =
      "part,model,layers,task,accuracy,accuracy_low,accuracy_high,mean_logprob,near_ties,"
      "examples\n";
  for (size_t t = 0; t < found.tasks.size(); ++t) {
    const PrunedTask& task = found.tasks[t];
    for (size_t depth = 0; depth < task.curve.size(); ++depth) {
      const auto layers = static_cast<int64_t>(depth);
      text += csv_line("depth", fmt::format("first {}", layers), layers, task, task.curve[depth]);
    }
    for (size_t layer = 0; layer < task.without_layer.size(); ++layer) {
      text += csv_line("without_layer", fmt::format("without {}", layer), found.layers - 1, task,
                       task.without_layer[layer]);
    }
    for (const ContrastRow& one : found.contrast) {
      text += csv_line("contrast", one.name, one.layers, task, one.tasks.at(t));
    }
  }
  return text;
}

std::string prune_text(const PruneFound& found) {
  Table depths = tasks_table(found, "layers kept");
  for (int64_t depth = found.layers; depth >= 0; --depth) {
    const bool minimal = found.minimal == depth;
    const Cell name(fmt::format("{}{}", depth, minimal ? " *" : ""),
                    minimal ? Ink::Good : Ink::None);
    add_row(depths, found, name,
            [&](size_t t) { return found.tasks[t].curve[static_cast<size_t>(depth)]; });
  }
  std::string text = depths.text() + minimal_line(found);
  const size_t left_out = found.tasks.front().without_layer.size();
  Table without = tasks_table(found, "without layer");
  for (size_t layer = 0; layer < left_out; ++layer) {
    add_row(without, found, std::to_string(layer),
            [&](size_t t) { return found.tasks[t].without_layer[layer]; });
  }
  if (!without.empty()) text += "\n" + without.text();
  if (!found.contrast.empty()) text += "\n" + contrast_text(found);
  return text;
}

}  // namespace headlens::cli
