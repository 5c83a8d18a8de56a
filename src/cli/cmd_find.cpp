// headlens/cli: `find`: which heads gather, which aggregate.
#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "cli/size_curve.h"
#include "cli/table.h"
#include "core/check.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/core/log.h"
#include "headlens/report/csv_report.h"
#include "headlens/report/html_report.h"
#include "headlens/report/json_report.h"
#include "headlens/report/maps_json.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  std::vector<std::string> heads;
  AblationFlags ablation;
  SharedRunFlags shared;
  CurveFlags curve;
  std::optional<int64_t> groups;
  std::optional<std::string> screen;  // "K" or "P%"
  bool exact = false;
  std::optional<double> sequential;  // the error rate
  int64_t maps = 8;
  double min_drop = FindOptions{}.min_drop;
  bool keep_groups = false;
};

Ink ink_of(HeadRole role) {
  return role == HeadRole::Gather      ? Ink::Gather
         : role == HeadRole::Aggregate ? Ink::Aggregate
                                       : Ink::None;
}

void add_head(Table& table, const HeadScore& s) {
  const auto figure = [](const std::optional<double>& v) {
    return v ? fmt::format("{:.3f}", *v) : "-";
  };
  const Estimate& drop = *s.accuracy_drop;
  table.add({{head_role_name(s.role), ink_of(s.role)},
             head_text(s.head),
             s.kind,
             fmt::format("{:.3f}", drop.value),
             interval_text(drop),
             figure(s.map.entropy_norm),
             figure(s.map.gather),
             figure(s.map.aggregate),
             figure(s.map.target),
             {bar(drop.value, 12), ink_of(s.role)}});
}

/// How the screen did, in a line.
std::string screen_line(const ScreenSummary& s) {
  std::string text = fmt::format("screen: {} heads estimated", s.heads);
  if (s.shortlist > 0) {
    text += fmt::format(", {} measured on {} examples", s.shortlist, s.shortlist_examples);
  }
  text += fmt::format(", {} chosen, {} ablated", s.chosen, s.ablated);
  if (s.rank_correlation) text += fmt::format(", rank correlation {:.2f}", *s.rank_correlation);
  if (s.missed) {
    text +=
        fmt::format(", {} that matter missed{}", s.missed->size(), s.missed->empty() ? "" : ":");
    for (const HeadId& head : *s.missed) text += " " + head_text(head);
  }
  return text + "\n";
}

/// The circuit, or, where there is none, the heads that come nearest.
std::string summary(const FindResult& r, const TaskInfo& task) {
  std::string text =
      fmt::format("{} on {}: accuracy {:.3f} (95 % {:.3f} to {:.3f}, {} examples, {} near ties)\n",
                  r.model.name, task.spec, r.base.accuracy.value, r.base.accuracy.low,
                  r.base.accuracy.high, r.base.examples, r.base.near_ties);
  Table table({"<role", "layer.head", "<kind", "drop", "95 %", "entropy", "gather", "aggreg.",
               "target", "<"});
  std::vector<const HeadScore*> order;
  for (const HeadScore& s : r.heads) {
    if (s.accuracy_drop) order.push_back(&s);
  }
  std::stable_sort(order.begin(), order.end(), [](const HeadScore* a, const HeadScore* b) {
    return a->accuracy_drop->value > b->accuracy_drop->value;
  });
  const bool found = !r.gather.empty() || !r.aggregate.empty();
  if (!found) text += "  no head has a role by the rule (docs/metrics.md); the largest drops are\n";
  constexpr size_t kNearest = 3;
  for (size_t i = 0; i < order.size(); ++i) {
    if (found ? order[i]->role != HeadRole::None : i < kNearest) add_head(table, *order[i]);
  }
  text += table.text();
  if (r.screen) text += screen_line(*r.screen);
  return text;
}

void write_reports(const Flags& flags, const FindResult& result, const TaskInfo& task,
                   const Manifest& manifest) {
  write_report_file(flags.out / "scores.json", scores_json(result, task, manifest));
  write_report_file(flags.out / "scores.csv", scores_csv(result));
  write_report_file(flags.out / "maps.json", maps_json(result, manifest));
  write_report_file(flags.out / "report.html", report_html(result, task, manifest));
}

/// "K" or "P%"; empty: the default percentage.
ScreenOptions screen_options(const std::string& text) {
  ScreenOptions options;
  if (text.empty()) return options;
  const bool percent = text.back() == '%';
  const std::string digits = percent ? text.substr(0, text.size() - 1) : text;
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  const bool whole = percent || value == std::floor(value);
  HEADLENS_CHECK(
      UsageError,
      !digits.empty() && *end == '\0' && whole && value > 0 && value <= (percent ? 100 : 1e9),
      "[find] --screen, expected a number of heads or a percentage up to 100%, got '{}'", text);
  if (percent) {
    options.percent = value;
  } else {
    options.count = static_cast<int64_t>(value);
  }
  return options;
}

/// Screens if asked to, or if there are many heads and none are named.
void choose_screen(const Flags& flags, const ModelConfig& config, FindOptions& options) {
  if (flags.screen) {
    options.screen = screen_options(*flags.screen);
    options.screen->exact = flags.exact;
  } else if (!flags.exact && options.heads.empty() &&
             std::ssize(all_heads(config, options.mamba1_groups)) > kManyHeads) {
    options.screen = ScreenOptions{};
  }
  HEADLENS_CHECK(UsageError, !options.screen || options.heads.empty(),
                 "[find] --heads, expected none with --screen, got {}", options.heads.size());
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
  HEADLENS_CHECK(UsageError, !flags.sequential || (*flags.sequential > 0 && *flags.sequential < 1),
                 "[find] --sequential, expected an error rate between 0 and 1, got {}",
                 flags.sequential.value_or(0));
  options.sweep = sweep_options(flags.ablation);
  HEADLENS_CHECK(UsageError, !flags.sequential || options.sweep.mode == AblationMode::Zero,
                 "[find] --mode, expected zero with --sequential, got {}", flags.ablation.mode);
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
      {"screen", !options.screen             ? "none"
                 : options.screen->count > 0 ? fmt::format("{}", options.screen->count)
                                             : fmt::format("{}%", options.screen->percent)},
      {"sequential", flags.sequential ? fmt::format("{}", *flags.sequential) : "none"},
      {"max_gpu_memory", fmt::format("{}", flags.ablation.gpu_memory)},
      {"max_host_memory", fmt::format("{}", flags.ablation.host_memory)},
      {"bos", flags.bos ? "true" : "false"}};
  if (!flags.curve.task.empty()) {
    manifest.options["curve"] = flags.curve.task;
    manifest.options["curve_sizes"] = fmt::format("{}", fmt::join(flags.curve.sizes, ","));
  }
  return manifest;
}

/// What the results of work items depend on, besides the model and the task.
std::map<std::string, std::string> item_options(const Flags& flags, const Manifest& manifest) {
  std::map<std::string, std::string> options = manifest.options;
  options.insert({{"command", "find"},
                  {"mode", flags.ablation.mode},
                  {"placement", flags.ablation.placement}});
  return options;
}

void add_curve(FindResult& result, std::vector<LoadedTask> tasks, const LanguageModel& model,
               const CurveFlags& flags, SweepOptions sweep, WorkPool& pool, Progress& progress) {
  if (tasks.empty()) return;
  sweep.progress = [&](int64_t done, int64_t total) { progress.update("curve", done, total); };
  result.curve = size_curve(flags, std::move(tasks), model, curve_heads(result), sweep, pool);
}

/// The search, in batches of `options.sweep.max_batch_tokens`.
FindResult search(const Flags& flags, const LanguageModel& model,
                  const std::vector<TokenizedExample>& examples, FindOptions options) {
  // A batch holds rows of examples times the variants that fit: short batches leave room for
  // many variants.
  const int64_t row_tokens = std::max<int64_t>(1, options.sweep.max_batch_tokens / 4);
  if (flags.sequential) {
    constexpr int64_t kLook = 32;  // examples between two looks
    options.sequential = SequentialLooks{
        *flags.sequential, make_choice_parts(examples, kLook, flags.seed, row_tokens)};
  }
  const auto objective = make_choice_objective(examples, row_tokens);
  return find_gather_aggregate(model, *objective, options);
}

/// Adds what is known only once the work is done.
void complete(const Flags& flags, const FindOptions& options, const FindResult& result,
              const SharedRun& run, Manifest& manifest) {
  if (options.sweep.mode == AblationMode::Scale) manifest.options["mode"] = flags.ablation.mode;
  if (result.out_of_memory > 0) {
    manifest.options["batches_halved"] = fmt::format("{}", result.out_of_memory);
  }
  run.note_shrunk(manifest.options);
}

void hand_over(const Flags& flags, const FindResult& result, const TaskInfo& task, double chance,
               const Manifest& manifest, SharedRun& run) {
  if (run.leads()) write_reports(flags, result, task, manifest);
  run.finish();
  if (!run.leads()) return;
  note_chance(result, chance, flags.quiet);
  print(flags.json ? scores_json(result, task, manifest)
                   : summary(result, task) +
                         fmt::format("report: {}\n", (flags.out / "report.html").string()));
}

int find(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  SharedRun run(flags, flags.shared, flags.out / "find.journal");
  Progress progress(flags.quiet);
  FindOptions options = find_options(flags, progress);
  const LoadedModel loaded = load_model(flags);
  check_heads_exist(loaded.model.config(), options.heads);
  check_placement(loaded.model.config(), options.sweep.placement);
  options.heads = single_heads(loaded.model.config(), options.heads);
  choose_screen(flags, loaded.model.config(), options);
  LoadedTask task = load_task(flags.task, loaded, flags);
  std::vector<LoadedTask> curve = load_curve(flags.curve, loaded, flags);
  if (run.leads()) make_directory(flags.out);
  const double chance = chance_of(task.examples);
  Manifest manifest = find_manifest(flags, options, loaded);
  run.start(run_identity(manifest, flags, task.info, task_digest(task.examples),
                         item_options(flags, manifest)),
            manifest);
  memory_notice(flags, loaded.model, flags.ablation.batch_tokens);
  FindResult result;
  run.shrink_to_fit(flags.ablation.batch_tokens, [&](int64_t tokens, WorkPool& pool) {
    options.sweep.max_batch_tokens = tokens;
    options.pool = &pool;
    result = search(flags, loaded.model, task.examples, options);
    add_curve(result, curve, loaded.model, flags.curve, options.sweep, pool, progress);
  });
  progress.finish();
  result.model.name = flags.model;
  complete(flags, options, result, run, manifest);
  manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  hand_over(flags, result, task.info, chance, manifest, run);
  return 0;
}

}  // namespace

void add_find(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("find",
                                         "Scores every head by ablation, entropy and segment mass; "
                                         "names the Gather and Aggregate heads");
  add_common_flags(*command, *flags,
                   "directory for scores.json, scores.csv, maps.json and report.html");
  command->get_option("--out")->required();
  add_task_flag(*command, flags->task);
  add_heads_flag(*command, flags->heads)
      ->description("only these heads, as LAYER.HEAD or LAYER.FIRST-LAST (default: every head)");
  add_ablation_flags(*command, flags->ablation);
  add_shared_run_flags(*command, flags->shared);
  add_curve_flags(*command, flags->curve);
  command->add_option("--groups", flags->groups,
                      "channel groups a Mamba-1 layer starts with (default 16)");
  command->add_flag("--keep-groups", flags->keep_groups,
                    "do not refine groups that matter to channels");
  command
      ->add_option("--screen", flags->screen,
                   "estimate all heads from gradients, measure a shortlist on a few examples, "
                   "ablate only the first K or P% (default 5%; on by itself from 2049 heads or "
                   "channel groups): --screen=64, --screen=10%")
      ->expected(0, 1);
  command->add_flag("--exact", flags->exact,
                    "ablate every head; with --screen, also tell what that would have missed");
  command->add_option("--sequential", flags->sequential,
                      "stop testing heads that are sure not to reach --min-drop; with probability "
                      "1 - ALPHA none that would is stopped");
  command->add_option("--min-drop", flags->min_drop,
                      "smallest accuracy drop of a named head (default 0.02)");
  command->add_option("--maps", flags->maps, "maps kept for the report (default 8)");
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return find(*flags); }; });
}

}  // namespace headlens::cli
