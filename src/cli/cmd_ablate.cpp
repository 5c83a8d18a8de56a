// headlens/cli: `ablate`: accuracy before and after heads are switched off together.
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "headlens/analysis/work_items.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  AblationFlags ablation;
  SharedRunFlags shared;
  std::vector<std::string> heads;
  bool keep = false;
};

std::string outcome_text(const char* name, const SweepOutcome& o) {
  return fmt::format("{:<7} accuracy {:.4f}  mean log-probability {:.4f}  near ties {}\n", name,
                     o.accuracy(), o.mean_logprob(), o.near_ties());
}

std::string ablate_text(const SweepResult& r, const TaskInfo& task, const AblationFlags& ablation) {
  const SweepOutcome& after = r.variants.front();
  const Estimate drop = accuracy_drop(r.base, after);
  return outcome_text("before", r.base) + outcome_text("after", after) +
         fmt::format(
             "drop    {:.4f} (95 % {:.4f} to {:.4f}) over {} examples; placement {}, mode {}\n",
             drop.value, drop.low, drop.high, task.examples, ablation.placement, ablation.mode);
}

Json outcome_json(const SweepOutcome& o) {
  return {
      {"accuracy", o.accuracy()}, {"mean_logprob", o.mean_logprob()}, {"near_ties", o.near_ties()}};
}

Json ablate_json(const SweepResult& r, const TaskInfo& task, const Flags& flags) {
  const SweepOutcome& after = r.variants.front();
  const Estimate drop = accuracy_drop(r.base, after);
  return {{"task", task.spec},
          {"seed", task.seed},
          {"examples", task.examples},
          {"heads", flags.heads},
          {"keep", flags.keep},
          {"mode", flags.ablation.mode},
          {"placement", flags.ablation.placement},
          {"base", outcome_json(r.base)},
          {"ablated", outcome_json(after)},
          {"accuracy_drop", drop.value},
          {"accuracy_drop_ci", {drop.low, drop.high}},
          {"logprob_drop", logprob_drop(r.base, after)}};
}

/// Beside the output, where there is one.
std::filesystem::path journal_of(const Flags& flags) {
  return flags.out.empty() ? flags.out : std::filesystem::path(flags.out.string() + ".journal");
}

std::map<std::string, std::string> item_options(const Flags& flags) {
  return {{"command", "ablate"},
          {"heads", fmt::format("{}", fmt::join(flags.heads, ","))},
          {"keep", flags.keep ? "true" : "false"},
          {"mode", flags.ablation.mode},
          {"placement", flags.ablation.placement},
          {"batch_tokens", fmt::format("{}", flags.ablation.batch_tokens)},
          {"bos", flags.bos ? "true" : "false"}};
}

int ablate(Flags flags) {
  SharedRun run(flags, flags.shared, journal_of(flags));
  SweepOptions options = sweep_options(flags.ablation);
  const std::vector<HeadId> heads = parse_heads(flags.heads);
  if (run.leads()) check_writable(flags.out);
  const LoadedModel loaded = load_model(flags);
  check_heads_exist(loaded.model.config(), heads);
  check_placement(loaded.model.config(), options.placement);
  LoadedTask task = load_task(flags.task, loaded, flags);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(
      run_identity(manifest, flags, task.info, task_digest(task.examples), item_options(flags)),
      manifest);
  Progress progress(flags.quiet);
  options.progress = [&](int64_t done, int64_t total) { progress.update("ablate", done, total); };
  const auto objective =
      make_choice_objective(std::move(task.examples), flags.ablation.batch_tokens);
  const SweepResult r =
      pooled_joint_ablation(run.pool(), loaded.model, *objective, heads, flags.keep, options);
  progress.finish();
  if (run.leads()) {
    deliver(flags, ablate_json(r, task.info, flags), ablate_text(r, task.info, flags.ablation));
  }
  run.finish();
  return 0;
}

}  // namespace

void add_ablate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("ablate", "Accuracy before and after heads are switched off");
  add_common_flags(*command, *flags, "file for the result as JSON");
  add_task_flag(*command, flags->task);
  add_heads_flag(*command, flags->heads)->required();
  command->add_flag("--keep", flags->keep,
                    "keep these heads and switch off the others of their layers");
  add_ablation_flags(*command, flags->ablation);
  add_shared_run_flags(*command, flags->shared);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return ablate(*flags); }; });
}

}  // namespace headlens::cli
