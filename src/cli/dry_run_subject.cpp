// headlens/cli: what a dry run plans with: the words of the command, and a model with its prompts.
#include "cli/dry_run_subject.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "cli/ids.h"
#include "core/check.h"
#include "core/json_fields.h"
#include "headlens/tasks/generative.h"

namespace headlens::cli {
namespace {

CommonFlags common_flags(const PlanWords& words, const std::string& model) {
  CommonFlags flags;
  flags.model = model;
  flags.device = words.text("--device");
  flags.dtype = words.text("--dtype");
  flags.seed = static_cast<uint64_t>(words.number("--seed", 0));
  flags.bos = words.has("--bos");
  flags.tokenizer = words.text("--tokenizer");
  flags.quiet = true;
  return flags;
}

void add_example(Prompts& prompts, const TokenizedExample& example) {
  prompts.count += 1;
  double more = 0;
  for (const std::vector<int64_t>& choice : example.choice_ids) {
    more += static_cast<double>(choice.size()) - 1;
  }
  prompts.tokens += static_cast<double>(example.prompt_ids.size()) + more;
  prompts.judged += 1 + more;
  prompts.longest = std::max<int64_t>(prompts.longest, std::ssize(example.prompt_ids));
}

void add_text(Prompts& prompts, const std::vector<int64_t>& ids, double new_tokens) {
  prompts.count += 1;
  prompts.tokens += static_cast<double>(ids.size());
  prompts.judged += 1;
  prompts.new_tokens += new_tokens;
  prompts.longest = std::max<int64_t>(prompts.longest, std::ssize(ids));
}

Prompts task_prompts(const std::string& spec, const LoadedModel& loaded, const CommonFlags& flags) {
  Prompts prompts{spec};
  if (is_generative_task(spec)) {
    const GenerativeTask task = make_generative_task(spec);
    const Tokenizer tokenizer = load_tokenizer(loaded, flags);
    for (const GenerativeExample& example : task.examples) {
      add_text(prompts, tokenizer.encode(example.prompt, flags.bos),
               static_cast<double>(task.max_new_tokens));
    }
    return prompts;
  }
  for (const TokenizedExample& example : load_task(spec, loaded, flags).examples) {
    add_example(prompts, example);
  }
  return prompts;
}

Prompts text_prompts(const PlanWords& words, const LoadedModel& loaded, const CommonFlags& flags) {
  Prompts prompts{"text"};
  const double more =
      static_cast<double>(words.command() == "generate" ? words.number("--max-new-tokens", 64) : 0);
  if (words.has("--ids")) {
    const Tensor ids = file_ids(words.text("--ids"));
    const std::vector<int64_t> row(static_cast<size_t>(ids.size(1)));
    for (int64_t i = 0; i < ids.size(0); ++i) add_text(prompts, row, more);
    return prompts;
  }
  const Tokenizer tokenizer = load_tokenizer(loaded, flags);
  std::vector<std::string> texts = words.all("--text");
  for (const std::string& file : words.all("--file")) texts.push_back(read_text_file(file));
  for (const std::string& text : texts) {
    add_text(prompts, tokenizer.encode(text, flags.bos), more);
  }
  return prompts;
}

}  // namespace

std::vector<std::string> PlanWords::all(const char* name) const {
  const CLI::Option* option = command_.get_option_no_throw(name);
  return option == nullptr ? std::vector<std::string>{} : option->results();
}

std::string PlanWords::text(const char* name, const std::string& fallback) const {
  const std::vector<std::string> words = all(name);
  return words.empty() ? fallback : words.front();
}

int64_t PlanWords::number(const char* name, int64_t fallback) const {
  const std::string word = text(name);
  int64_t value = fallback;
  std::from_chars(word.data(), word.data() + word.size(), value);
  return value;
}

double Subject::heads_of(int64_t layer, int64_t groups) const {
  double count = 0;
  for (const HeadBank& bank : head_banks(config.layers[static_cast<size_t>(layer)])) {
    const bool channels = bank.kind == LayerKind::Mamba1;
    count += static_cast<double>(channels ? std::min(groups, bank.count) : bank.count);
  }
  return count;
}

int64_t batch_tokens_of(const PlanWords& words) {
  return std::max<int64_t>(1, words.number("--batch-tokens", 16384));
}

Subject subject_of(const PlanWords& words, const std::string& model, const std::string& task) {
  Subject subject;
  subject.flags = common_flags(words, model);
  subject.config = identify_model(subject.flags).config;
  const LoadedModel loaded = stand_in(subject.flags);
  if (!task.empty()) {
    subject.prompts = task_prompts(task, loaded, subject.flags);
  } else if (words.command() == "scores") {
    const int64_t period = words.number("--period", 50), count = words.number("--prompts", 4);
    const std::vector<int64_t> twice(static_cast<size_t>(2 * period));
    subject.prompts.name = "random texts";
    for (int64_t i = 0; i < count; ++i) add_text(subject.prompts, twice, 0);
  } else {
    subject.prompts = text_prompts(words, loaded, subject.flags);
  }
  HEADLENS_CHECK(UsageError, subject.prompts.count > 0,
                 "[dry run] prompts, expected some (--task, --text or --ids), got {}", "none");
  const auto mean = std::llround(subject.prompts.tokens / subject.prompts.count);
  subject.cost = calibrate(subject.config, subject.flags, mean, batch_tokens_of(words));
  return subject;
}

}  // namespace headlens::cli
