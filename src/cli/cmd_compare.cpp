// headlens/cli: `compare`: how sharp the maps of two models are on the same examples.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/pool_steps.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "cli/table.h"
#include "core/check.h"
#include "headlens/analysis/compare.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/report/compare_report.h"
#include "headlens/report/json_report.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string model_b, tokenizer_b;
  std::string task;
  std::vector<std::string> heads_a, heads_b;
  int64_t groups = 16;
  int64_t bins = 4;
  int64_t batch_tokens = 16384;
  bool no_search = false;
  MemoryFlags memory;
  SharedRunFlags shared;
};

/// One model measured, and what has to be the same of both.
struct Side {
  ComparedModel measured;
  TaskInfo task;
  std::vector<std::vector<std::string>> tokens;  // [example] of [pos]
  Manifest manifest;
};

/// --heads-a and --heads-b: the Gather head, then the Aggregate head. No words: none were named.
ChosenHeads named_heads(const char* flag, const std::vector<std::string>& words,
                        const ModelConfig& config) {
  if (words.empty()) return {};
  const std::vector<HeadId> heads = parse_heads(words);
  HEADLENS_CHECK(UsageError, heads.size() == 2,
                 "[compare] {}, expected two heads, GATHER,AGGREGATE, got {}", flag, heads.size());
  for (const HeadId& head : heads) check_heads_exist(config, {head});  // they may be the same
  return {heads[0], heads[1]};
}

/// The strongest Gather and the strongest Aggregate head by the rule of `find`.
ChosenHeads searched_heads(const char* stage, const Flags& flags, const LanguageModel& model,
                           const Objective& objective, WorkPool& pool, Progress& progress) {
  FindOptions options;
  options.mamba1_groups = flags.groups;
  options.map_samples = 0;
  options.sweep.max_batch_tokens = flags.batch_tokens;
  if (std::ssize(all_heads(model.config(), flags.groups)) > kManyHeads) options.screen.emplace();
  options.progress = [&](const char* what, int64_t done, int64_t total) {
    progress.update(fmt::format("{} {}", stage, what), done, total);
  };
  PrefixedPool of_model(pool, std::string(stage) + " ");
  options.pool = &of_model;
  const FindResult found = find_gather_aggregate(model, objective, options);
  ChosenHeads chosen;
  if (!found.gather.empty()) chosen.gather = found.gather.front();
  if (!found.aggregate.empty()) chosen.aggregate = found.aggregate.front();
  return chosen;
}

/// What outcomes depend on, known before the second model is loaded.
RunIdentity compare_identity(const Flags& flags, const LoadedTask& task, const Manifest& manifest) {
  CommonFlags second = flags;
  second.model = flags.model_b;
  second.tokenizer = flags.tokenizer_b;
  const auto heads = [](const std::vector<std::string>& words) {
    return fmt::format("{}", fmt::join(words, ","));
  };
  return run_identity(manifest, flags, task.info, task_digest(task.examples),
                      {{"command", "compare"},
                       {"model_b", identify_model(second).fingerprint},
                       {"tokenizer_b", tokenizer_digest(second)},
                       {"heads_a", heads(flags.heads_a)},
                       {"heads_b", heads(flags.heads_b)},
                       {"no_search", flags.no_search ? "true" : "false"},
                       {"groups", fmt::format("{}", flags.groups)},
                       {"batch_tokens", fmt::format("{}", flags.batch_tokens)},
                       {"bos", flags.bos ? "true" : "false"}});
}

/// measure_model, its figures made by one process.
ComparedModel pooled_model(WorkPool& pool, const char* stage, const LanguageModel& model,
                           const std::function<ComparedModel()>& compute) {
  HeadFigures figures = pooled_head_values(pool, std::string(stage) + " maps", [&] {
    ComparedModel made = compute();
    return HeadFigures{std::move(made.heads), std::move(made.gather), std::move(made.aggregate)};
  });
  ComparedModel measured;
  measured.model = describe_model(model).model;
  measured.heads = std::move(figures.heads);
  measured.gather = std::move(figures.gather);
  measured.aggregate = std::move(figures.aggregate);
  return measured;
}

Side measure(const Flags& flags, bool second, SharedRun& run, Progress& progress) {
  CommonFlags common = flags;
  if (second) {
    common.model = flags.model_b;
    common.tokenizer = flags.tokenizer_b;
  }
  const LoadedModel loaded = load_model(common);
  const std::vector<std::string>& words = second ? flags.heads_b : flags.heads_a;
  ChosenHeads chosen =
      named_heads(second ? "--heads-b" : "--heads-a", words, loaded.model.config());
  LoadedTask task = load_task(flags.task, loaded, common);
  Side side{{}, task.info, {}, make_manifest(common, loaded)};
  if (!second) run.start(compare_identity(flags, task, side.manifest), side.manifest);
  for (const TokenizedExample& example : task.examples) side.tokens.push_back(example.tokens);
  const char* stage = second ? "model B:" : "model A:";
  const int64_t most =
      tokens_within(flags, flags.memory, loaded.model, flags.batch_tokens, {.map_figures = true});
  run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
    const auto objective = make_choice_objective(task.examples, tokens);
    if (words.empty() && !flags.no_search) {
      Flags smaller = flags;
      smaller.batch_tokens = tokens;
      chosen = searched_heads(stage, smaller, loaded.model, *objective, pool, progress);
    }
    side.measured = pooled_model(pool, stage, loaded.model, [&] {
      return measure_model(loaded.model, *objective, chosen, flags.groups,
                           [&](int64_t done, int64_t total) {
                             progress.update(fmt::format("{} maps", stage), done, total);
                           });
    });
  });
  side.measured.model.name = common.model;
  return side;
}

/// Segments given as token positions mean other stretches of the text to another tokenizer.
void check_segments(const Flags& flags, const Side& a, const Side& b) {
  if (a.tokens == b.tokens) return;
  const Task task = make_task(flags.task, flags.seed);
  for (const Example& example : task.examples) {
    HEADLENS_CHECK(TaskError, example.segments.empty(),
                   "[compare] {}, expected no segments as token positions, since the two models "
                   "split the prompts into other tokens, got some",
                   example.source);
  }
}

/// What the manifest of A does not say: the other model, and the flags.
void complete(Manifest& manifest, const Manifest& other, const Flags& flags) {
  manifest.options = {{"model_b", flags.model_b},
                      {"checkpoint_b", other.checkpoint},
                      {"dtype_b", other.dtype},
                      {"groups", fmt::format("{}", flags.groups)},
                      {"depth_bins", fmt::format("{}", flags.bins)},
                      {"batch_tokens", fmt::format("{}", flags.batch_tokens)},
                      {"bos", flags.bos ? "true" : "false"}};
}

std::string summary_name(const Comparison& c, const std::string& summary) {
  if (summary == "mean") return "mean over heads";
  if (summary == "gather_head" || summary == "aggregate_head") {
    const bool gather = summary == "gather_head";
    const HeadId a = (gather ? c.a.gather : c.a.aggregate)->head;
    const HeadId b = (gather ? c.b.gather : c.b.aggregate)->head;
    return fmt::format("{} {} / {}", gather ? "gather" : "aggregate", head_text(a), head_text(b));
  }
  return fmt::format("layers, share {} of {}", summary.substr(summary.find('_') + 1), c.depth_bins);
}

std::string comparison_text(const Comparison& c, const TaskInfo& task) {
  std::string text = fmt::format("A {} against B {} on {}, {} examples\n", c.a.model.name,
                                 c.b.model.name, task.spec, c.examples);
  Table table({"<figure", "<of", "A", "B", "A - B", "95 %"});
  for (size_t f = 0; f < kMapFigures; ++f) {
    for (const PairedDifference& d : c.differences) {
      if (static_cast<size_t>(d.figure) != f) continue;
      table.add({kMapFigureNames[f], summary_name(c, d.summary), fmt::format("{:.3f}", d.a.value),
                 fmt::format("{:.3f}", d.b.value), fmt::format("{:.3f}", d.difference.value),
                 interval_text(d.difference)});
    }
  }
  text += table.text();
  for (const auto& [role, a, b] : {std::tuple("gather", &c.a.gather, &c.b.gather),
                                   std::tuple("aggregate", &c.a.aggregate, &c.b.aggregate)}) {
    if (!*a) text += fmt::format("  A has no {} head\n", role);
    if (!*b) text += fmt::format("  B has no {} head\n", role);
  }
  return text;
}

int compare(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  check_range("--groups", flags.groups, 1);
  check_range("--depth-bins", flags.bins, 1);
  check_range("--batch-tokens", flags.batch_tokens, 1);
  model_directory(flags.model_b);  // better said before the work than after half of it
  SharedRun run(flags, flags.shared, flags.out / "compare.journal");
  if (run.leads()) make_directory(flags.out);
  Progress progress(flags.quiet);
  Side a = measure(flags, /*second=*/false, run, progress);
  const Side b = measure(flags, /*second=*/true, run, progress);
  progress.finish();
  check_segments(flags, a, b);
  const Comparison c = compare_models(a.measured, b.measured, flags.bins);
  complete(a.manifest, b.manifest, flags);
  run.note_shrunk(a.manifest.options);
  a.manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!run.leads()) {
    run.finish();
    return 0;
  }
  const std::string json = compare_json(c, a.task, a.manifest);
  write_report_file(flags.out / "compare.json", json);
  write_report_file(flags.out / "compare.csv", compare_csv(c));
  write_report_file(flags.out / "compare.html", compare_html(c, a.task, a.manifest));
  run.finish();
  print(flags.json ? json
                   : comparison_text(c, a.task) +
                         fmt::format("report: {}\n", (flags.out / "compare.html").string()));
  return 0;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "compare", "How sharp the maps of two models are on the same examples, head by head");
  add_common_flags(*command, *flags, "directory for compare.json, compare.csv and compare.html");
  command->get_option("--out")->required();
  add_shared_run_flags(*command, flags->shared);
  command->add_option("MODEL_B", flags->model_b, "the model that the first is compared with")
      ->required();
  add_task_flag(*command, flags->task);
  command
      ->add_option("--heads-a", flags->heads_a,
                   "GATHER,AGGREGATE: the first model's two heads (default: the strongest that "
                   "find's rules name)")
      ->delimiter(',');
  command->add_option("--heads-b", flags->heads_b, "the same of the second model")->delimiter(',');
  command->add_flag("--no-search", flags->no_search,
                    "look for no Gather and Aggregate heads where none are named");
  command->add_option("--depth-bins", flags->bins,
                      "equal shares of the layers that are compared (default 4)");
  command->add_option("--groups", flags->groups, "channel groups of a Mamba-1 layer (default 16)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  add_memory_flags(*command, flags->memory);
  add_text_flags(*command, *flags);
  command->add_option("--tokenizer-b", flags->tokenizer_b, "as --tokenizer, for the second model");
  command->callback([flags, &action] { action = [flags] { return compare(*flags); }; });
}

}  // namespace headlens::cli
