// headlens/cli: `eval`: a model's accuracy on a task.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/progress.h"
#include "headlens/tasks/scoring.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
};

int eval(const Flags& flags) {
  const LoadedModel loaded = load_model(flags);
  const LoadedTask task = load_task(flags.task, load_tokenizer(loaded.directory), flags);
  Progress progress(flags.quiet);
  EvalOptions options;
  options.progress = [&](int64_t done, int64_t total) { progress.update("eval", done, total); };
  const EvalResult r = evaluate(loaded.model, task.examples, options);
  progress.finish();
  if (flags.json) {
    const nlohmann::ordered_json out = {
        {"task", task.info.spec},         {"examples", r.n},
        {"accuracy", r.accuracy},         {"accuracy_ci", {r.ci_low, r.ci_high}},
        {"mean_logprob", r.mean_logprob}, {"chance", r.chance},
        {"near_ties", r.near_ties}};
    print(out.dump(2) + "\n");
    return 0;
  }
  print(fmt::format(
      "{}: accuracy {:.4f} (95 % {:.4f} to {:.4f}) over {} examples; chance {:.4f}; "
      "mean log-probability {:.4f}; near ties {}\n",
      task.info.spec, r.accuracy, r.ci_low, r.ci_high, r.n, r.chance, r.mean_logprob, r.near_ties));
  return 0;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("eval", "Accuracy on a task, with its 95 % interval");
  add_common_flags(*command, *flags);
  command
      ->add_option("--task", flags->task, "kv:pairs=20,n=512, mcq:options=4,n=512, jsonl:FILE, ...")
      ->required();
  command->add_flag("--bos", flags->bos, "put the tokenizer's start token before prompts");
  command->callback([flags, &action] { action = [flags] { return eval(*flags); }; });
}

}  // namespace headlens::cli
