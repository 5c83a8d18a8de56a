// headlens/cli: `find`: which heads gather, which aggregate.
#include <fmt/format.h>

#include <chrono>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/progress.h"
#include "core/check.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/report/csv_report.h"
#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task, mode = "zero", placement = "post_norm";
  int64_t groups = 16, batch_tokens = 16384, maps = 8;
  double min_drop = 0.05;
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
  std::error_code error;
  std::filesystem::create_directories(flags.out, error);
  HEADLENS_CHECK(Error, !error, "[find] {}, expected a directory that can be made, got {}",
                 flags.out.string(), error.message());
  write_report_file(flags.out / "scores.json", scores_json(result, task, manifest));
  write_report_file(flags.out / "scores.csv", scores_csv(result));
  write_report_file(flags.out / "report.html", report_html(result, task, manifest));
}

FindOptions find_options(const Flags& flags, Progress& progress) {
  FindOptions options;
  options.sweep.mode = parse_mode(flags.mode);
  options.sweep.placement = parse_placement(flags.placement);
  options.sweep.max_batch_tokens = flags.batch_tokens;
  options.mamba1_groups = flags.groups;
  options.refine_channels = !flags.keep_groups;
  options.map_samples = flags.maps;
  options.min_drop = flags.min_drop;
  options.progress = [&progress](const char* stage, int64_t done, int64_t total) {
    progress.update(stage, done, total);
  };
  return options;
}

int find(const Flags& flags) {
  const auto start = std::chrono::steady_clock::now();
  Progress progress(flags.quiet);
  const FindOptions options =
      find_options(flags, progress);  // refuses wrong words before loading anything
  const LoadedModel loaded = load_model(flags);
  LoadedTask task = load_task(flags.task, load_tokenizer(loaded.directory), flags);
  Manifest manifest = make_manifest(flags, loaded.model);
  manifest.options = {{"groups", fmt::format("{}", flags.groups)},
                      {"min_drop", fmt::format("{}", flags.min_drop)},
                      {"batch_tokens", fmt::format("{}", flags.batch_tokens)},
                      {"bos", flags.bos ? "true" : "false"}};
  // A batch holds one example's rows times the variants that fit: short batches leave room for many
  // variants.
  const int64_t rows_tokens = std::max<int64_t>(1, flags.batch_tokens / 4);
  const auto objective = make_choice_objective(std::move(task.examples), rows_tokens);
  FindResult result = find_gather_aggregate(loaded.model, *objective, options);
  progress.finish();
  result.model.name = flags.model;
  result.mode = flags.mode;
  result.placement = flags.placement;
  manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_reports(flags, result, task.info, manifest);
  if (flags.json) {
    print(scores_json(result, task.info, manifest));
  } else {
    print(summary(result, task.info));
    print(fmt::format("report: {}\n", (flags.out / "report.html").string()));
  }
  return 0;
}

}  // namespace

void add_find(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("find",
                                         "Scores every head by ablation, entropy and segment mass; "
                                         "names the Gather and Aggregate heads");
  add_common_flags(*command, *flags);
  command->get_option("--out")->required();
  command
      ->add_option("--task", flags->task, "kv:pairs=20,n=512, mcq:options=4,n=512, jsonl:FILE, ...")
      ->required();
  command->add_option("--mode", flags->mode, "zero, mean or resample (default zero)");
  command->add_option("--placement", flags->placement,
                      "post_norm or pre_norm, for Mamba-2 (default post_norm)");
  command->add_option("--groups", flags->groups,
                      "channel groups a Mamba-1 layer starts with (default 16)");
  command->add_flag("--keep-groups", flags->keep_groups,
                    "do not refine groups that matter to channels");
  command->add_option("--min-drop", flags->min_drop,
                      "smallest accuracy drop of a named head (default 0.05)");
  command->add_option("--maps", flags->maps, "maps kept for the report (default 8)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  command->add_flag("--bos", flags->bos, "put the tokenizer's start token before prompts");
  command->callback([flags, &action] { action = [flags] { return find(*flags); }; });
}

}  // namespace headlens::cli
