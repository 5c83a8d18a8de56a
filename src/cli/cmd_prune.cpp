// headlens/cli: `prune`: how many layers a task needs, and what the minimal model rests on.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/pool_steps.h"
#include "cli/progress.h"
#include "cli/prune_output.h"
#include "cli/shared_run.h"
#include "core/check.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/core/log.h"
#include "headlens/report/json_report.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::vector<std::string> tasks;
  std::vector<std::string> against;
  std::vector<std::string> heads;    // of the contrast
  std::vector<std::string> without;  // off throughout
  std::vector<std::string> only;     // the others of their layers are off throughout
  std::optional<double> tolerance;
  std::optional<double> threshold;
  std::string placement = "post_norm";
  bool leave_one_out = false;
  std::optional<int64_t> groups;
  std::optional<double> min_drop;
  int64_t batch_tokens = SweepOptions{}.max_batch_tokens;
  MemoryFlags memory;
  SharedRunFlags shared;
  bool contrasts() const { return !against.empty() || !heads.empty(); }
  bool searches() const { return !against.empty() && heads.empty(); }
  bool some_off() const { return !without.empty() || !only.empty(); }
};

void check_flags(const Flags& flags) {
  check_range("--batch-tokens", flags.batch_tokens, 1);
  if (flags.groups) check_range("--groups", *flags.groups, 1);
  const double tolerance = flags.tolerance.value_or(0);
  HEADLENS_CHECK(UsageError, tolerance >= 0 && tolerance <= 1,
                 "[prune] --tolerance, expected 0 to 1, got {}", tolerance);
  HEADLENS_CHECK(UsageError, !flags.tolerance || !flags.threshold,
                 "[prune] rule, expected --tolerance or --threshold, got {}", "both");
  HEADLENS_CHECK(UsageError, !flags.threshold || (*flags.threshold >= 0 && *flags.threshold <= 1),
                 "[prune] --threshold, expected 0 to 1, got {}", flags.threshold.value_or(0));
  HEADLENS_CHECK(UsageError, flags.without.empty() || flags.only.empty(),
                 "[prune] heads that are off, expected --without or --only, got {}", "both");
  HEADLENS_CHECK(UsageError, flags.searches() || (!flags.groups && !flags.min_drop),
                 "[prune] --groups and --min-drop, expected where heads are searched (--against "
                 "without --heads), got {}",
                 "another call");
  HEADLENS_CHECK(UsageError,
                 flags.contrasts() || flags.some_off() || flags.placement == "post_norm",
                 "[prune] --placement, expected where heads are off, got {}", "none");
  HEADLENS_CHECK(UsageError, !flags.some_off() || !flags.searches(),
                 "[prune] --against with heads off, expected --heads as well (heads are searched "
                 "in a model that has all of its own), got {}",
                 "none");
}

/// --without, or the others of --only.
std::vector<HeadId> heads_off(const ModelConfig& config, const Flags& flags) {
  CutFlags cut;
  cut.heads = flags.only.empty() ? flags.without : flags.only;
  cut.keep = !flags.only.empty();
  return cut_heads(config, cut);
}

/// A task made ready, and its place in the result.
struct Prepared {
  PrunedTask task;
  std::unique_ptr<Objective> objective;
  std::string digest;
};

Prepared prepare(const std::string& spec, bool against, const LoadedModel& loaded,
                 const Flags& flags) {
  LoadedTask task = load_task(spec, loaded, flags);
  double chance = 0;
  for (const TokenizedExample& e : task.examples) {
    chance += 1 / static_cast<double>(e.choice_ids.size());
  }
  chance /= static_cast<double>(task.examples.size());
  const std::string digest = task_digest(task.examples);
  // Variants of the search for heads share a forward: short batches leave room for them.
  const int64_t row_tokens = std::max<int64_t>(1, flags.batch_tokens / 4);
  return {{task.info, against, chance, {}, {}},
          make_choice_objective(std::move(task.examples), row_tokens),
          digest};
}

std::vector<Prepared> prepare_all(const LoadedModel& loaded, const Flags& flags) {
  std::vector<Prepared> all;
  for (const std::string& spec : flags.tasks) all.push_back(prepare(spec, false, loaded, flags));
  for (const std::string& spec : flags.against) all.push_back(prepare(spec, true, loaded, flags));
  return all;
}

void add_new(std::vector<HeadId>& heads, const std::vector<HeadId>& more) {
  for (const HeadId& head : more) {
    if (std::find(heads.begin(), heads.end(), head) == heads.end()) heads.push_back(head);
  }
}

/// Gather and Aggregate heads of the minimal model on the retrieval tasks.
void find_heads(const LanguageModel& minimal, const std::vector<Prepared>& tasks,
                const Flags& flags, WorkPool& pool, Progress& progress, PruneFound& found) {
  FindOptions options;
  options.map_samples = 0;
  options.mamba1_groups = flags.groups.value_or(options.mamba1_groups);
  options.min_drop = flags.min_drop.value_or(options.min_drop);
  options.sweep.placement = sweep_options({.placement = flags.placement}).placement;
  options.progress = [&](const char* stage, int64_t done, int64_t total) {
    progress.update(stage, done, total);
  };
  for (const Prepared& one : tasks) {
    if (one.task.against) continue;
    PrefixedPool of_task(pool, "minimal model, " + one.task.info.spec + ": ");
    options.pool = &of_task;
    const FindResult result = find_gather_aggregate(minimal, *one.objective, options);
    add_new(found.gather, result.gather);
    add_new(found.aggregate, result.aggregate);
  }
  std::erase_if(found.aggregate, [&](const HeadId& head) {  // one role on each of two tasks
    return std::find(found.gather.begin(), found.gather.end(), head) != found.gather.end();
  });
}

/// Row by row, the outcomes of all tasks.
std::vector<ContrastRow> pooled_contrast(WorkPool& pool, const LanguageModel& model, int64_t layers,
                                         const std::vector<HeadId>& heads,
                                         const std::vector<const Objective*>& objectives,
                                         const PruneOptions& options) {
  const auto compute = [&] {
    std::vector<SweepOutcome> all;
    for (ContrastRow& row : contrast(model, layers, heads, objectives, options)) {
      for (SweepOutcome& outcome : row.tasks) all.push_back(std::move(outcome));
    }
    return all;
  };
  std::vector<ContrastRow> rows = {{"full", model.layer_count(), {}}, {"minimal", layers, {}}};
  if (!heads.empty()) rows.push_back({"without heads", layers, {}});
  const std::vector<SweepOutcome> all = pooled_outcomes(pool, "contrast", compute);
  for (size_t i = 0; i < all.size(); ++i) rows.at(i / objectives.size()).tasks.push_back(all[i]);
  return rows;
}

void make_contrast(const LanguageModel& model, const std::vector<Prepared>& tasks,
                   const Flags& flags, const PruneOptions& options, WorkPool& pool,
                   Progress& progress, PruneFound& found) {
  const LanguageModel minimal = first_layers(model, *found.minimal);
  found.given = parse_heads(flags.heads);
  check_heads_exist(model.config(), found.given);
  for (const HeadId& head : found.given) {
    HEADLENS_CHECK(UsageError, head.layer < *found.minimal,
                   "[heads] {}, expected a layer within the minimal model's first {}, got {}",
                   head_text(head), *found.minimal, head.layer);
  }
  if (found.given.empty() && *found.minimal > 0) {
    find_heads(minimal, tasks, flags, pool, progress, found);
  }
  std::vector<HeadId> heads = found.given;
  add_new(heads, found.gather);
  add_new(heads, found.aggregate);
  std::vector<const Objective*> objectives;
  for (const Prepared& one : tasks) objectives.push_back(one.objective.get());
  found.contrast = pooled_contrast(pool, model, *found.minimal, heads, objectives, options);
  if (heads.empty() && !flags.quiet) {
    log_warn("[prune] no Gather or Aggregate head was found in the minimal model");
  }
}

PruneFound measure(const LanguageModel& model, std::vector<Prepared>& tasks, const Flags& flags,
                   WorkPool& pool, Progress& progress) {
  PruneFound found;
  found.layers = model.layer_count();
  found.rule.tolerance = flags.tolerance.value_or(found.rule.tolerance);
  found.rule.threshold = flags.threshold;
  found.full_bytes = model.weight_bytes();
  PruneOptions options;
  options.off = found.off = heads_off(model.config(), flags);
  options.placement = sweep_options({.placement = flags.placement}).placement;
  std::vector<std::vector<SweepOutcome>> curves;
  for (Prepared& one : tasks) {
    options.progress = [&](int64_t done, int64_t total) {
      progress.update("depths of " + one.task.info.name, done, total);
    };
    const std::string& spec = one.task.info.spec;
    one.task.curve = pooled_outcomes(pool, fmt::format("depths {}", spec),
                                     [&] { return depth_curve(model, *one.objective, options); });
    if (!one.task.against) curves.push_back(one.task.curve);
    if (!flags.leave_one_out) continue;
    one.task.without_layer = pooled_outcomes(pool, fmt::format("layers left out {}", spec), [&] {
      return leave_one_layer_out(model, *one.objective, options);
    });
  }
  options.progress = {};
  found.minimal = minimal_depth(curves, found.rule);
  if (found.minimal) found.minimal_bytes = first_layers(model, *found.minimal).weight_bytes();
  if (found.minimal && flags.contrasts()) {
    make_contrast(model, tasks, flags, options, pool, progress, found);
  }
  for (Prepared& one : tasks) found.tasks.push_back(std::move(one.task));
  return found;
}

void note_chance(const PruneFound& found, bool quiet) {
  for (const PrunedTask& task : found.tasks) {
    if (quiet || task.against || accuracy_estimate(task.curve.back()).low > task.chance) continue;
    log_warn(
        fmt::format("[prune] accuracy {:.3f} on {} is no better than chance ({:.3f}): what is "
                    "minimal says little",
                    task.curve.back().accuracy(), task.info.spec, task.chance));
  }
}

/// All tasks as one, and what outcomes depend on besides.
RunIdentity prune_identity(const Flags& flags, const std::vector<Prepared>& tasks,
                           const Manifest& manifest) {
  TaskInfo all;
  std::string digest;
  for (const Prepared& one : tasks) {
    all.spec += (all.spec.empty() ? "" : " ") + one.task.info.spec;
    all.examples += one.task.info.examples;
    digest += (digest.empty() ? "" : " ") + one.digest;
  }
  const auto number = [](const auto& value) {
    return value ? fmt::format("{}", *value) : "default";
  };
  return run_identity(manifest, flags, all, digest,
                      {{"command", "prune"},
                       {"against", fmt::format("{}", fmt::join(flags.against, " "))},
                       {"heads", fmt::format("{}", fmt::join(flags.heads, ","))},
                       {"without", fmt::format("{}", fmt::join(flags.without, ","))},
                       {"only", fmt::format("{}", fmt::join(flags.only, ","))},
                       {"tolerance", number(flags.tolerance)},
                       {"threshold", number(flags.threshold)},
                       {"placement", flags.placement},
                       {"groups", number(flags.groups)},
                       {"min_drop", number(flags.min_drop)},
                       {"batch_tokens", fmt::format("{}", flags.batch_tokens)}});
}

int prune(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  check_flags(flags);
  SharedRun run(flags, flags.shared, flags.out.empty() ? flags.out : flags.out / "prune.journal");
  const Placement placement = sweep_options({.placement = flags.placement}).placement;
  const LoadedModel loaded = load_model(flags);
  check_placement(loaded.model.config(), placement);
  std::vector<Prepared> tasks = prepare_all(loaded, flags);
  if (!flags.out.empty() && run.leads()) make_directory(flags.out);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(prune_identity(flags, tasks, manifest), manifest);
  Progress progress(flags.quiet);
  PruneFound found;
  const int64_t most = tokens_within(flags, flags.memory, loaded.model, flags.batch_tokens);
  run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
    Flags smaller = flags;
    smaller.batch_tokens = tokens;
    if (run.shrunk()) tasks = prepare_all(loaded, smaller);
    found = measure(loaded.model, tasks, smaller, pool, progress);
  });
  run.note_shrunk(manifest.options);
  progress.finish();
  manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!run.leads()) {
    run.finish();
    return 0;
  }
  note_chance(found, flags.quiet);
  Json json = {
      {"schema", "headlens.prune/1"}, {"model", flags.model}, {"placement", flags.placement}};
  json.update(prune_json(found));
  json["manifest"] = manifest_json(manifest);
  if (!flags.out.empty()) {
    write_report_file(flags.out / "prune.json", json_text(json));
    write_report_file(flags.out / "prune.csv", prune_csv(found));
  }
  run.finish();
  print(flags.json ? json_text(json) : prune_text(found));
  return 0;
}

CLI::Option* add_heads(CLI::App& command, const char* name, std::vector<std::string>& heads,
                       const char* help) {
  return command.add_option(name, heads, help)->delimiter(',');
}

}  // namespace

void add_prune(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "prune", "The fewest layers that still do a task, and what they do with heads off");
  add_common_flags(*command, *flags, "directory for prune.json and prune.csv");
  add_shared_run_flags(*command, flags->shared);
  command->add_option("--task", flags->tasks, "a task to keep; may be given again")
      ->allow_extra_args(false)
      ->required();
  command
      ->add_option("--against", flags->against,
                   "a task of another kind for the contrast; may be given again")
      ->allow_extra_args(false);
  command->add_option("--tolerance", flags->tolerance,
                      "accuracy that the minimal model may lose (default 0.05)");
  command->add_option("--threshold", flags->threshold,
                      "accuracy that it is to have, in place of --tolerance");
  command->add_flag("--leave-one-out", flags->leave_one_out,
                    "also each layer left out of the whole model");
  add_heads(*command, "--heads", flags->heads,
            "heads to switch off in the contrast (default: Gather and Aggregate heads are found in "
            "the minimal model)");
  add_heads(*command, "--without", flags->without, "heads that are off throughout");
  add_heads(*command, "--only", flags->only,
            "heads that stay: the others of their layers are off throughout");
  command->add_option("--placement", flags->placement,
                      "post_norm or pre_norm, for Mamba-2 (default post_norm)");
  command->add_option("--groups", flags->groups,
                      "channel groups of a Mamba-1 layer in the search (default 16)");
  command->add_option("--min-drop", flags->min_drop,
                      "smallest accuracy drop of a found head (default 0.02)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  add_memory_flags(*command, flags->memory);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return prune(*flags); }; });
}

}  // namespace headlens::cli
