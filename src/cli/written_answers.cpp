// headlens/cli: answers that a model writes, read and judged by a task's rules.
#include "cli/written_answers.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "cli/not_finite.h"
#include "cli/progress.h"
#include "headlens/analysis/journal.h"
#include "headlens/model/generate.h"

namespace headlens::cli {

std::vector<std::string> write_answers(const LoadedModel& loaded, const CommonFlags& flags,
                                       const GenerativeTask& task, const WritingOptions& options) {
  const Tokenizer tokenizer = load_tokenizer(loaded, flags);
  std::vector<std::string> prompts;
  for (const GenerativeExample& example : task.examples) prompts.push_back(example.prompt);
  check_bos(flags, tokenizer, prompts.front());
  check_finite(loaded,
               at::tensor(tokenizer.encode(prompts.front(), flags.bos), at::kLong).unsqueeze(0));
  HookSet hooks(loaded.model.config());
  check_placement(loaded.model.config(), options.how.placement);
  add_cuts(loaded.model, options.cut, options.how, hooks);
  GenerateOptions generating;
  generating.max_new_tokens = task.max_new_tokens;
  generating.stops = task.stop;
  generating.max_batch_tokens = options.batch_tokens;
  if (hooks.size() > 0) generating.tap = &hooks;
  bool ran = false;  // not where every text is known from before
  generating.steps = options.steps;
  generating.on_batch = [&ran](const std::vector<int64_t>&) { ran = true; };
  Progress progress(flags.quiet);
  generating.progress = [&](int64_t done, int64_t total) { progress.update("eval", done, total); };
  std::vector<std::string> texts;
  for (Generation& made : generate(loaded.model, tokenizer, prompts, generating, flags.bos)) {
    texts.push_back(std::move(made.text));
  }
  if (ran) hooks.check_all_fired();
  progress.finish();
  return texts;
}

SweepOutcome judge_answers(const GenerativeTask& task, const AnswerRule& rule,
                           const std::vector<std::string>& texts) {
  SweepOutcome outcome;
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string answer = cut_at_stop(texts[i], task.stop);
    outcome.verdicts.push_back({.correct = judge_completion(rule, answer, task.examples[i])});
  }
  return outcome;
}

std::string prompts_digest(const std::vector<std::string>& prompts) {
  std::string all;
  for (const std::string& prompt : prompts) all += fmt::format("{} {}\n", prompt.size(), prompt);
  return checksum_text(all);
}

WrittenAnswers evaluate_written(const LoadedModel& loaded, const CommonFlags& flags,
                                const std::string& spec, const GenerativeTask& task,
                                const WritingOptions& options) {
  const std::vector<std::string> texts = write_answers(loaded, flags, task, options);
  const CutFlags& cut = options.cut;
  WrittenAnswers result;
  result.json = {{"task", spec},           {"examples", texts.size()},
                 {"heads", cut.heads},     {"layers", cut.layers},
                 {"mlp", cut.mlps},        {"keep", cut.keep},
                 {"rules", Json::array()}, {"texts", texts}};
  for (const AnswerRule& rule : task.rules) {
    const Estimate accuracy = accuracy_estimate(judge_answers(task, rule, texts));
    result.json["rules"].push_back({{"rule", rule.name},
                                    {"accuracy", accuracy.value},
                                    {"accuracy_ci", {accuracy.low, accuracy.high}}});
    result.text +=
        fmt::format("{}, {}: accuracy {:.4f} (95 % {:.4f} to {:.4f}) over {} examples\n", spec,
                    rule.name, accuracy.value, accuracy.low, accuracy.high, texts.size());
  }
  return result;
}

}  // namespace headlens::cli
