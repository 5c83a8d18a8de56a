// headlens/cli: `attribute`: what of the answer's logit difference each head and MLP writes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/answers.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "cli/table.h"
#include "headlens/analysis/logit_attribution.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  int64_t groups = 16;
  int64_t top = 12;
  int64_t batch_tokens = 16384;
  SharedRunFlags shared;
  MemoryFlags memory;
  const CLI::App* command = nullptr;
};

void put(Json& json, const std::string& name, const Estimate& e) {
  json[name] = e.value;
  json[name + "_ci"] = {e.low, e.high};
}

Json layers_json(const std::vector<LayerEffect>& layers) {
  Json list = Json::array();
  for (const LayerEffect& layer : layers) {
    Json entry = {{"layer", layer.layer}};
    put(entry, "effect", layer.effect);
    list.push_back(std::move(entry));
  }
  return list;
}

double sum_of(const std::vector<LayerEffect>& layers) {
  double sum = 0;
  for (const LayerEffect& layer : layers) sum += layer.effect.value;
  return sum;
}

/// What the parts of each sort write together.
std::vector<std::pair<std::string, double>> sums_of(const LogitAttribution& r) {
  double heads = 0;
  for (const HeadEffect& head : r.heads) heads += head.effect.value;
  return {
      {"heads", heads}, {"MLPs", sum_of(r.mlps)}, {"biases", sum_of(r.biases) + r.norm_bias.value}};
}

Json attribution_json(const Flags& flags, const TaskInfo& task, const LogitAttribution& r) {
  Json json = {{"schema", "headlens.attribution/1"},
               {"model", flags.model},
               {"task", task.spec},
               {"seed", task.seed},
               {"examples", task.examples}};
  put(json, "difference", r.difference);
  put(json, "embedding", r.embedding);
  put(json, "norm_bias", r.norm_bias);
  for (const auto& [name, sum] : sums_of(r)) json["sums"][name] = sum;
  json["heads"] = Json::array();
  for (const HeadEffect& head : r.heads) {
    Json entry = {{"layer", head.head.layer}, {"head", head.head.first}, {"kind", head.kind}};
    if (head.kind == "mamba1") entry["channels"] = {head.head.first, head.head.last};
    put(entry, "effect", head.effect);
    json["heads"].push_back(std::move(entry));
  }
  json["mlps"] = layers_json(r.mlps);
  json["biases"] = layers_json(r.biases);
  json["lens"] = Json::array();
  for (const LensLayer& lens : r.lens) {
    Json entry = {{"layer", lens.layer}};
    put(entry, "difference", lens.difference);
    entry["accuracy"] = lens.accuracy;
    put(entry, "logprob", lens.logprob);
    json["lens"].push_back(std::move(entry));
  }
  return json;
}

void add_part(Table& table, const std::string& name, const Estimate& e) {
  table.add({name, fmt::format("{:.3f}", e.value), interval_text(e)});
}

/// The parts of largest size, and the sums of all.
std::string attribution_text(const Flags& flags, const TaskInfo& task, const LogitAttribution& r) {
  std::string text =
      fmt::format("{} on {}, {} examples: the answer's logit less the other choices' mean\n",
                  flags.model, task.spec, task.examples);
  Table parts_table({"<", "difference", "95 %"});
  add_part(parts_table, "logit difference", r.difference);
  add_part(parts_table, "embedding", r.embedding);
  std::vector<std::pair<std::string, Estimate>> parts;
  for (const HeadEffect& head : r.heads) {
    parts.emplace_back(fmt::format("{} {}", head.kind, head_text(head.head)), head.effect);
  }
  for (const LayerEffect& mlp : r.mlps) {
    parts.emplace_back(fmt::format("mlp {}", mlp.layer), mlp.effect);
  }
  for (const auto& [name, sum] : sums_of(r)) {
    parts_table.add({"all " + name, fmt::format("{:.3f}", sum)});
  }
  std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
    return std::abs(a.second.value) > std::abs(b.second.value);
  });
  parts.resize(std::min(parts.size(), static_cast<size_t>(flags.top)));
  Table largest({"<", "", ""});
  for (const auto& [name, effect] : parts) add_part(largest, name, effect);
  text += parts_table.text() + "largest parts\n" + largest.text();
  Table lens_table({"<after", "difference", "95 %", "accuracy", "log-prob."});
  for (const LensLayer& lens : r.lens) {
    lens_table.add({lens.layer < 0 ? "embedding" : fmt::format("layer {}", lens.layer),
                    fmt::format("{:.3f}", lens.difference.value), interval_text(lens.difference),
                    fmt::format("{:.3f}", lens.accuracy),
                    fmt::format("{:.3f}", lens.logprob.value)});
  }
  return text + "logit lens\n" + lens_table.text();
}

int attribute(Flags flags) {
  check_range("--groups", flags.groups, 1);
  check_range("--top", flags.top, 0);
  check_range("--batch-tokens", flags.batch_tokens, 1);
  check_writable(flags.out);
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  const LoadedModel loaded = load_model(flags);
  const LoadedTask task = load_task(flags.task, loaded, flags);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(*flags.command, flags, task.info, task_digest(task.examples), manifest);
  const std::vector<AnswerTokens> answers = answers_of(task.examples);
  Progress progress(flags.quiet);
  LogitOptions options;
  options.mamba1_groups = flags.groups;
  options.progress = [&](int64_t done, int64_t total) {
    progress.update("attribute", done, total);
  };
  LogitAttribution found;
  const int64_t most = tokens_within(flags, flags.memory, loaded.model, flags.batch_tokens);
  run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
    options.steps = steps_of(pool);
    found = attribute_logits(loaded.model, *make_choice_objective(task.examples, tokens), answers,
                             options);
  });
  progress.finish();
  Json json = attribution_json(flags, task.info, found);
  if (run.shrunk()) json["batch_tokens_that_fit"] = run.shrunk()->tokens;
  if (run.leads()) deliver(flags, json, attribution_text(flags, task.info, found));
  run.finish();
  return 0;
}

}  // namespace

void add_attribute(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "attribute",
      "What of the answer's logit difference each head and MLP writes, and the logit lens");
  add_common_flags(*command, *flags, "file for the result as JSON");
  add_task_flag(*command, flags->task);
  command->add_option("--groups", flags->groups, "channel groups of a Mamba-1 layer (default 16)");
  command->add_option("--top", flags->top, "largest parts that are printed (default 12)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  add_memory_flags(*command, flags->memory);
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return attribute(*flags); }; });
}

}  // namespace headlens::cli
