// headlens/cli: answers that a model writes, read and judged by a task's rules.
#include "cli/written_answers.h"

#include <fmt/format.h>

#include "cli/progress.h"
#include "headlens/core/intervals.h"
#include "headlens/model/generate.h"
#include "headlens/tasks/generative.h"

namespace headlens::cli {
namespace {

std::vector<Generation> written(const LoadedModel& loaded, const CommonFlags& flags,
                                const GenerativeTask& task, const CutFlags& cut,
                                const SweepOptions& cuts, int64_t batch_tokens) {
  const Tokenizer tokenizer = load_tokenizer(loaded, flags);
  std::vector<std::string> prompts;
  for (const GenerativeExample& example : task.examples) prompts.push_back(example.prompt);
  check_bos(flags, tokenizer, prompts.front());
  HookSet hooks(loaded.model.config());
  check_placement(loaded.model.config(), cuts.placement);
  add_cuts(loaded.model, cut, cuts, hooks);
  GenerateOptions options;
  options.max_new_tokens = task.max_new_tokens;
  options.stops = task.stop;
  options.max_batch_tokens = batch_tokens;
  if (hooks.size() > 0) options.tap = &hooks;
  Progress progress(flags.quiet);
  options.progress = [&](int64_t done, int64_t total) { progress.update("eval", done, total); };
  auto texts = generate(loaded.model, tokenizer, prompts, options, flags.bos);
  hooks.check_all_fired();
  progress.finish();
  return texts;
}

}  // namespace

WrittenAnswers evaluate_written(const CommonFlags& flags, const std::string& spec,
                                const CutFlags& cut, const SweepOptions& options,
                                int64_t batch_tokens) {
  const GenerativeTask task = make_generative_task(spec);
  const LoadedModel loaded = load_model(flags);
  const std::vector<Generation> texts = written(loaded, flags, task, cut, options, batch_tokens);
  const int64_t n = std::ssize(task.examples);
  WrittenAnswers result;
  result.json = {{"task", spec},           {"examples", n},         {"heads", cut.heads},
                 {"layers", cut.layers},   {"mlp", cut.mlps},       {"keep", cut.keep},
                 {"rules", Json::array()}, {"texts", Json::array()}};
  for (const Generation& text : texts) result.json["texts"].push_back(text.text);
  for (const AnswerRule& rule : task.rules) {
    int64_t right = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      right += judge_completion(rule, cut_at_stop(texts[i].text, task.stop), task.examples[i]);
    }
    const double accuracy = static_cast<double>(right) / static_cast<double>(n);
    const auto [low, high] = wilson_bounds(right, n);
    result.json["rules"].push_back(
        {{"rule", rule.name}, {"accuracy", accuracy}, {"accuracy_ci", {low, high}}});
    result.text += fmt::format("{}, {}: accuracy {:.4f} (95 % {:.4f} to {:.4f}) over {} examples\n",
                               spec, rule.name, accuracy, low, high, n);
  }
  return result;
}

}  // namespace headlens::cli
