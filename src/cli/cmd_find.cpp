// headlens/cli: `find`: which heads gather, which aggregate.
#include <fmt/ranges.h>

#include <chrono>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "core/check.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/core/log.h"
#include "headlens/report/csv_report.h"
#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  std::vector<std::string> heads;
  AblationFlags ablation;
  std::optional<int64_t> groups;
  int64_t maps = 8;
  double min_drop = FindOptions{}.min_drop;
  bool keep_groups = false;
};

std::string head_line(const HeadScore& s) {
  const auto figure = [](const std::optional<double>& v) {
    return v ? fmt::format("{:7.3f}", *v) : "      -";
  };
  return fmt::format("  {:<9} {:>10} {:<16} {:>7.3f} [{:6.3f},{:6.3f}] {} {} {} {}\n",
                     head_role_name(s.role), head_text(s.head), s.kind, s.accuracy_drop->value,
                     s.accuracy_drop->low, s.accuracy_drop->high, figure(s.map.entropy_norm),
                     figure(s.map.gather), figure(s.map.aggregate), figure(s.map.target));
}

/// The circuit, or, where there is none, the heads that come nearest.
std::string summary(const FindResult& r, const TaskInfo& task) {
  std::string text =
      fmt::format("{} on {}: accuracy {:.3f} (95 % {:.3f} to {:.3f}, {} examples, {} near ties)\n",
                  r.model.name, task.spec, r.base.accuracy.value, r.base.accuracy.low,
                  r.base.accuracy.high, r.base.examples, r.base.near_ties);
  text +=
      fmt::format("  {:<9} {:>10} {:<16} {:>7} {:>15} {:>7} {:>7} {:>7} {:>7}\n", "role",
                  "layer.head", "kind", "drop", "95 %", "entropy", "gather", "aggreg.", "target");
  std::vector<const HeadScore*> order;
  for (const HeadScore& s : r.heads) order.push_back(&s);
  std::stable_sort(order.begin(), order.end(), [](const HeadScore* a, const HeadScore* b) {
    return a->accuracy_drop->value > b->accuracy_drop->value;
  });
  const bool found = !r.gather.empty() || !r.aggregate.empty();
  if (!found) text += "  no head has a role by the rule (docs/metrics.md); the largest drops are\n";
  constexpr size_t kNearest = 3;
  for (size_t i = 0; i < order.size(); ++i) {
    if (found ? order[i]->role != HeadRole::None : i < kNearest) text += head_line(*order[i]);
  }
  return text;
}

void write_reports(const Flags& flags, const FindResult& result, const TaskInfo& task,
                   const Manifest& manifest) {
  write_report_file(flags.out / "scores.json", scores_json(result, task, manifest));
  write_report_file(flags.out / "scores.csv", scores_csv(result));
  write_report_file(flags.out / "report.html", report_html(result, task, manifest));
}

FindOptions find_options(const Flags& flags, Progress& progress) {
  FindOptions options;
  HEADLENS_CHECK(UsageError, flags.heads.empty() || !flags.groups,
                 "[find] --groups, expected without --heads, got {} with both",
                 flags.groups.value_or(0));
  if (flags.groups) options.mamba1_groups = *flags.groups;
  check_range("--groups", options.mamba1_groups, 1);
  check_range("--maps", flags.maps, 0);
  HEADLENS_CHECK(UsageError, flags.min_drop >= 0 && flags.min_drop <= 1,
                 "[find] --min-drop, expected 0 to 1, got {}", flags.min_drop);
  options.sweep = sweep_options(flags.ablation);
  options.heads = parse_heads(flags.heads);
  options.refine_channels = !flags.keep_groups;
  options.map_samples = flags.maps;
  options.min_drop = flags.min_drop;
  options.progress = [&progress](const char* stage, int64_t done, int64_t total) {
    progress.update(stage, done, total);
  };
  return options;
}

/// What choosing blindly would score.
double chance_of(const std::vector<TokenizedExample>& examples) {
  double sum = 0;
  for (const TokenizedExample& e : examples) sum += 1 / static_cast<double>(e.choice_ids.size());
  return sum / static_cast<double>(examples.size());
}

void note_chance(const FindResult& result, double chance, bool quiet) {
  if (quiet || result.base.accuracy.low > chance) return;
  log_warn(fmt::format("[find] accuracy {:.3f} is no better than chance ({:.3f}): drops say little",
                       result.base.accuracy.value, chance));
}

Manifest find_manifest(const Flags& flags, const FindOptions& options, const LoadedModel& loaded) {
  Manifest manifest = make_manifest(flags, loaded);
  manifest.options = {
      {"heads", flags.heads.empty() ? "all" : fmt::format("{}", fmt::join(flags.heads, ","))},
      {"groups", fmt::format("{}", options.mamba1_groups)},
      {"keep_groups", flags.keep_groups ? "true" : "false"},
      {"min_drop", fmt::format("{}", flags.min_drop)},
      {"batch_tokens", fmt::format("{}", flags.ablation.batch_tokens)},
      {"max_gpu_memory", fmt::format("{}", flags.ablation.gpu_memory)},
      {"max_host_memory", fmt::format("{}", flags.ablation.host_memory)},
      {"bos", flags.bos ? "true" : "false"}};
  return manifest;
}

int find(const Flags& flags) {
  const auto start = std::chrono::steady_clock::now();
  Progress progress(flags.quiet);
  FindOptions options = find_options(flags, progress);
  const LoadedModel loaded = load_model(flags);
  check_heads_exist(loaded.model.config(), options.heads);
  check_placement(loaded.model.config(), options.sweep.placement);
  options.heads = single_heads(loaded.model.config(), options.heads);
  LoadedTask task = load_task(flags.task, loaded, flags);
  make_directory(flags.out);
  const double chance = chance_of(task.examples);
  Manifest manifest = find_manifest(flags, options, loaded);
  // A batch holds rows of examples times the variants that fit: short batches leave room for many
  // variants.
  const int64_t row_tokens = std::max<int64_t>(1, flags.ablation.batch_tokens / 4);
  const auto objective = make_choice_objective(std::move(task.examples), row_tokens);
  FindResult result = find_gather_aggregate(loaded.model, *objective, options);
  progress.finish();
  result.model.name = flags.model;
  if (options.sweep.mode == AblationMode::Scale) manifest.options["mode"] = flags.ablation.mode;
  if (result.out_of_memory > 0) {
    manifest.options["batches_halved"] = fmt::format("{}", result.out_of_memory);
  }
  manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_reports(flags, result, task.info, manifest);
  note_chance(result, chance, flags.quiet);
  print(flags.json ? scores_json(result, task.info, manifest)
                   : summary(result, task.info) +
                         fmt::format("report: {}\n", (flags.out / "report.html").string()));
  return 0;
}

}  // namespace

void add_find(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("find",
                                         "Scores every head by ablation, entropy and segment mass; "
                                         "names the Gather and Aggregate heads");
  add_common_flags(*command, *flags, "directory for scores.json, scores.csv and report.html");
  command->get_option("--out")->required();
  add_task_flag(*command, flags->task);
  add_heads_flag(*command, flags->heads)
      ->description("only these heads, as LAYER.HEAD or LAYER.FIRST-LAST (default: every head)");
  add_ablation_flags(*command, flags->ablation);
  command->add_option("--groups", flags->groups,
                      "channel groups a Mamba-1 layer starts with (default 16)");
  command->add_flag("--keep-groups", flags->keep_groups,
                    "do not refine groups that matter to channels");
  command->add_option("--min-drop", flags->min_drop,
                      "smallest accuracy drop of a named head (default 0.02)");
  command->add_option("--maps", flags->maps, "maps kept for the report (default 8)");
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return find(*flags); }; });
}

}  // namespace headlens::cli
