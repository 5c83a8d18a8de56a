// headlens/cli: `eval`: a model's accuracy on a task.
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
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
  SharedRunFlags shared;
  MemoryFlags memory;
  const CLI::App* command = nullptr;
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

void start(SharedRun& run, const Flags& flags, const LoadedModel& loaded, const TaskInfo& task,
           const std::string& digest) {
  Manifest manifest = make_manifest(flags, loaded);
  run.start(*flags.command, flags, task, digest, manifest);
}

void hand_over(SharedRun& run, const Flags& flags, Json json, const std::string& text) {
  if (run.shrunk()) json["batch_tokens_that_fit"] = run.shrunk()->tokens;
  if (run.leads()) deliver(flags, json, text);
  run.finish();
}

/// Texts are written, and judged by rules.
void eval_written(SharedRun& run, const Flags& flags, const SweepOptions& how) {
  const GenerativeTask task = make_generative_task(flags.task);
  const LoadedModel loaded = load_model(flags);
  std::vector<std::string> prompts;
  for (const GenerativeExample& example : task.examples) prompts.push_back(example.prompt);
  TaskInfo info;
  info.spec = flags.task, info.examples = std::ssize(task.examples);
  start(run, flags, loaded, info, prompts_digest(prompts) + " " + tokenizer_digest(flags));
  WrittenAnswers answers;
  const int64_t most = tokens_within(flags, flags.memory, loaded.model, flags.batch_tokens);
  run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
    answers =
        evaluate_written(loaded, flags, flags.task, task, {flags.cut, how, tokens, steps_of(pool)});
  });
  hand_over(run, flags, std::move(answers.json), answers.text);
}

void eval_choices(SharedRun& run, const Flags& flags) {
  const LoadedModel loaded = load_model(flags);
  const LoadedTask task = load_task(flags.task, loaded, flags);
  start(run, flags, loaded, task.info, task_digest(task.examples));
  Progress progress(flags.quiet);
  EvalResult result;
  const int64_t most = tokens_within(flags, flags.memory, loaded.model, flags.batch_tokens);
  run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
    EvalOptions options;
    options.max_batch_tokens = tokens;
    options.steps = steps_of(pool);
    options.progress = [&](int64_t done, int64_t total) { progress.update("eval", done, total); };
    result = evaluate(loaded.model, task.examples, options);
  });
  progress.finish();
  hand_over(run, flags, eval_json(task.info, result), eval_text(task.info, result));
}

int eval(Flags flags) {
  check_range("--batch-tokens", flags.batch_tokens, 1);
  check_writable(flags.out);
  const SweepOptions how = cut_options("eval", flags.cut);
  const bool cuts = flags.cut.names_heads() || !flags.cut.mlps.empty();
  const bool written = is_generative_task(flags.task);
  HEADLENS_CHECK(UsageError, written || !cuts,
                 "[eval] --heads, --layers and --mlp, expected with tasks whose answers are "
                 "written, as gsm8k and bbh (others: headlens ablate), got {}",
                 flags.task);
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  written ? eval_written(run, flags, how) : eval_choices(run, flags);
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
  add_memory_flags(*command, flags->memory);
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return eval(*flags); }; });
}

}  // namespace headlens::cli
