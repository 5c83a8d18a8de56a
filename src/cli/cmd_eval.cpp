// headlens/cli: `eval`: a model's accuracy on a task.
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/written_answers.h"
#include "core/check.h"
#include "headlens/tasks/generative.h"
#include "headlens/tasks/scoring.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  WritingCutFlags cut;  // of tasks whose answers are written
  int64_t batch_tokens = EvalOptions{}.max_batch_tokens;
};

Json eval_json(const TaskInfo& task, const EvalResult& r) {
  Json json = {{"task", task.spec},
               {"seed", task.seed},
               {"examples", r.n},
               {"accuracy", r.accuracy},
               {"accuracy_ci", {r.ci_low, r.ci_high}},
               {"mean_logprob", r.mean_logprob},
               {"chance", r.chance},
               {"near_ties", r.near_ties}};
  if (r.norm) {
    json["accuracy_norm"] = r.norm->accuracy;
    json["accuracy_norm_ci"] = {r.norm->ci_low, r.norm->ci_high};
  }
  return json;
}

std::string eval_text(const TaskInfo& task, const EvalResult& r) {
  const std::string norm =
      r.norm ? fmt::format("divided by length: accuracy {:.4f} (95 % {:.4f} to {:.4f})\n",
                           r.norm->accuracy, r.norm->ci_low, r.norm->ci_high)
             : "";
  return fmt::format(
      "{}: accuracy {:.4f} (95 % {:.4f} to {:.4f}) over {} examples\n"
      "chance {:.4f}; mean log-probability {:.4f}; near ties {}\n{}",
      task.spec, r.accuracy, r.ci_low, r.ci_high, r.n, r.chance, r.mean_logprob, r.near_ties, norm);
}

int eval(const Flags& flags) {
  check_range("--batch-tokens", flags.batch_tokens, 1);
  check_writable(flags.out);
  const SweepOptions options_of_cuts = cut_options("eval", flags.cut);
  const bool cuts = flags.cut.names_heads() || !flags.cut.mlps.empty();
  if (is_generative_task(flags.task)) {
    const WrittenAnswers answers =
        evaluate_written(flags, flags.task, {flags.cut, options_of_cuts, flags.batch_tokens});
    deliver(flags, answers.json, answers.text);
    return 0;
  }
  HEADLENS_CHECK(UsageError, !cuts,
                 "[eval] --heads, --layers and --mlp, expected with tasks whose answers are "
                 "written, as gsm8k and bbh (others: headlens ablate), got {}",
                 flags.task);
  const LoadedModel loaded = load_model(flags);
  const LoadedTask task = load_task(flags.task, loaded, flags);
  Progress progress(flags.quiet);
  EvalOptions options;
  options.max_batch_tokens = flags.batch_tokens;
  options.progress = [&](int64_t done, int64_t total) { progress.update("eval", done, total); };
  const EvalResult r = evaluate(loaded.model, task.examples, options);
  progress.finish();
  deliver(flags, eval_json(task.info, r), eval_text(task.info, r));
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("eval", "Accuracy on a task, with its 95 % interval");
  add_common_flags(*command, *flags, "file for the result as JSON");
  add_task_flag(*command, flags->task);
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  add_writing_cut_flags(*command, flags->cut);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return eval(*flags); }; });
}

}  // namespace headlens::cli
