// headlens/cli: `ablate`: accuracy before and after heads are switched off together.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/progress.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task, mode = "zero", placement = "post_norm";
  std::vector<std::string> heads;
  int64_t batch_tokens = 16384;
  bool keep = false;
};

std::string outcome_text(const char* name, const SweepOutcome& o) {
  return fmt::format("{:<7} accuracy {:.4f}  mean log-probability {:.4f}  near ties {}\n", name,
                     o.accuracy(), o.mean_logprob(), o.near_ties());
}

nlohmann::ordered_json outcome_json(const SweepOutcome& o) {
  return {
      {"accuracy", o.accuracy()}, {"mean_logprob", o.mean_logprob()}, {"near_ties", o.near_ties()}};
}

int ablate(const Flags& flags) {
  SweepOptions options;
  options.mode = parse_mode(flags.mode);
  options.placement = parse_placement(flags.placement);
  const std::vector<HeadId> heads = parse_heads(flags.heads);
  const LoadedModel loaded = load_model(flags);
  LoadedTask task = load_task(flags.task, load_tokenizer(loaded.directory), flags);
  Progress progress(flags.quiet);
  options.progress = [&](int64_t done, int64_t total) { progress.update("ablate", done, total); };
  const auto objective = make_choice_objective(std::move(task.examples), flags.batch_tokens);
  const SweepResult r = ablate_jointly(loaded.model, *objective, heads, flags.keep, options);
  progress.finish();
  const SweepOutcome& after = r.variants.front();
  const Estimate drop = accuracy_drop(r.base, after);
  if (flags.json) {
    const nlohmann::ordered_json out = {{"task", task.info.spec},
                                        {"heads", flags.heads},
                                        {"keep", flags.keep},
                                        {"mode", flags.mode},
                                        {"placement", flags.placement},
                                        {"base", outcome_json(r.base)},
                                        {"ablated", outcome_json(after)},
                                        {"accuracy_drop", drop.value},
                                        {"accuracy_drop_ci", {drop.low, drop.high}},
                                        {"logprob_drop", logprob_drop(r.base, after)}};
    print(out.dump(2) + "\n");
    return 0;
  }
  print(outcome_text("before", r.base) + outcome_text("after", after));
  print(fmt::format(
      "drop    {:.4f} (95 % {:.4f} to {:.4f}) over {} examples; placement {}, mode {}\n",
      drop.value, drop.low, drop.high, task.info.examples, flags.placement, flags.mode));
  return 0;
}

}  // namespace

void add_ablate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("ablate", "Accuracy before and after heads are switched off");
  add_common_flags(*command, *flags);
  command
      ->add_option("--task", flags->task, "kv:pairs=20,n=512, mcq:options=4,n=512, jsonl:FILE, ...")
      ->required();
  command
      ->add_option("--heads", flags->heads,
                   "LAYER.HEAD, comma-separated; channels as LAYER.FIRST-LAST")
      ->delimiter(',')
      ->required();
  command->add_flag("--keep", flags->keep,
                    "keep these heads and switch off the others of their layers");
  command->add_option("--mode", flags->mode, "zero, mean or resample (default zero)");
  command->add_option("--placement", flags->placement,
                      "post_norm or pre_norm, for Mamba-2 (default post_norm)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  command->add_flag("--bos", flags->bos, "put the tokenizer's start token before prompts");
  command->callback([flags, &action] { action = [flags] { return ablate(*flags); }; });
}

}  // namespace headlens::cli
