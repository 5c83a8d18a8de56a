// headlens/tasks: tasks answered in free text: prompts, where an answer ends, how it is read.
#include "headlens/tasks/generative.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/check.h"
#include "core/near_words.h"
#include "tasks/bbh.h"
#include "tasks/data_spec.h"
#include "tasks/gsm8k.h"

namespace headlens {
namespace {

constexpr int64_t kMaxRows = 1'000'000;
constexpr int64_t kMaxShots = 100;
constexpr int64_t kMaxTokens = 65'536;

struct GenerativeKind {
  std::string name;
  std::string kind;  // "DIR" or "FILE"
  std::vector<DataParam> params;
  GenerativeTask (*load)(const DataSpec& spec);
};

/// The most that is written after a prompt; the harness's own number is the default.
DataParam tokens(const char* number) {
  return {"tokens", number, 1, kMaxTokens};
}

const std::vector<GenerativeKind>& kinds() {
  static const DataParam n = {"n", "all", 1, kMaxRows};
  static const DataParam examples = {"examples", ""}, tasks = {"tasks", "all"};
  static const std::vector<GenerativeKind> all = {
      {"gsm8k", "FILE", {{"shots", "5", 0, kMaxShots}, examples, tokens("256"), n}, load_gsm8k},
      {"gsm8k-cot",
       "FILE",
       {{"shots", "8", 0, kMaxShots}, examples, tokens("256"), n},
       load_gsm8k_cot},
      {"bbh", "DIR", {{"shots", "0", 0, kMaxShots}, tasks, tokens("256"), n}, load_bbh},
      {"bbh-cot", "DIR", {{"shots", "3", 0, kMaxShots}, tasks, tokens("1024"), n}, load_bbh_cot},
  };
  return all;
}

const GenerativeKind* find(const std::string& name) {
  const auto kind = std::find_if(kinds().begin(), kinds().end(),
                                 [&](const GenerativeKind& k) { return k.name == name; });
  return kind == kinds().end() ? nullptr : &*kind;
}

}  // namespace

GenerativeTask make_generative_task(std::string_view spec) {
  const TaskSpec parts = split_spec(spec);
  const GenerativeKind* kind = find(parts.name);
  if (kind == nullptr) {
    std::vector<std::string> names;
    for (const GenerativeKind& known : kinds()) names.push_back(known.name);
    HEADLENS_FAIL(UsageError, "[task] generative task, expected one of {}, got '{}'{}",
                  fmt::join(names, ", "), parts.name, suggestion(parts.name, names));
  }
  const DataSpec read = read_data_spec(parts, kind->kind, kind->params);
  GenerativeTask task = kind->load(read);
  task.max_new_tokens = read.number("tokens");
  task.info.spec = std::string(spec);
  task.info.name = parts.name;
  task.info.examples = std::ssize(task.examples);
  for (const auto& [name, value] : read.values) {
    if (!value.empty()) task.info.params[name] = value;
  }
  task.info.params["path"] = read.path;
  return task;
}

bool is_generative_task(std::string_view spec) {
  return find(split_spec(spec).name) != nullptr;
}

std::vector<std::string> known_generative_tasks() {
  std::vector<std::string> specs;
  for (const GenerativeKind& kind : kinds()) {
    specs.push_back(data_usage(kind.name, kind.kind, kind.params));
  }
  return specs;
}

std::string cut_at_stop(std::string_view completion, const std::vector<std::string>& stop) {
  size_t end = completion.size();
  for (const std::string& text : stop) end = std::min(end, completion.find(text));
  return std::string(completion.substr(0, end));
}

bool judge_completion(const AnswerRule& rule, const std::string& completion,
                      const GenerativeExample& example) {
  return rule.is_right(rule.extract(completion, example), example);
}

}  // namespace headlens
