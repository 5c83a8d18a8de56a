// headlens/tasks: BIG-Bench Hard from a local directory.
#include "tasks/bbh.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/check.h"
#include "core/json_fields.h"
#include "core/near_words.h"
#include "tasks/bbh_answers.h"
#include "tasks/json_line.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kThink = "\nA: Let's think step by step.";

/// A task's file of chains of thought, taken apart.
struct Chains {
  std::string description;
  std::vector<std::string> blocks;  // "Q: ...\nA: Let's think step by step....", three of them
};

Chains read_chains(const fs::path& file) {
  constexpr std::string_view kRule = "-----\n", kQuestion = "\n\nQ: ";
  const std::string text = read_whole(file);
  const size_t rule = text.find(kRule);
  HEADLENS_CHECK(TaskError, rule != text.npos,
                 "[task] {}: text, expected a line '-----' after the canary, got none",
                 file.string());
  std::string_view body = std::string_view(text).substr(rule + kRule.size());
  while (body.ends_with('\n')) body.remove_suffix(1);
  Chains out;
  size_t end = body.find(kQuestion);
  out.description = body.substr(0, end);
  while (end != body.npos) {
    const size_t begin = end + 2;
    end = body.find(kQuestion, begin);
    out.blocks.emplace_back(body.substr(begin, end == body.npos ? end : end - begin));
    HEADLENS_CHECK(TaskError, out.blocks.back().find(kThink) != std::string::npos,
                   "[task] {}: example {}, expected \"A: Let's think step by step.\", got none",
                   file.string(), out.blocks.size());
  }
  HEADLENS_CHECK(TaskError, !out.blocks.empty(),
                 "[task] {}: examples, expected 'Q: ' after an empty line, got none",
                 file.string());
  return out;
}

/// "Q: ...\nA: ANSWER" of a chain of thought that ends "So the answer is ANSWER."
std::string answer_alone(const std::string& block, const fs::path& file) {
  constexpr std::string_view kSo = "the answer is ";
  const size_t so = block.rfind(kSo);
  HEADLENS_CHECK(TaskError, so != block.npos && block.ends_with('.'),
                 "[task] {}: example, expected 'the answer is ...' at its end, got none",
                 file.string());
  const size_t begin = so + kSo.size();
  return block.substr(0, block.find(kThink)) +
         "\nA: " + block.substr(begin, block.size() - 1 - begin);
}

std::string opening(const fs::path& file, int64_t shots, bool chains_shown) {
  const Chains chains = read_chains(file);
  HEADLENS_CHECK(TaskError, std::ssize(chains.blocks) >= shots,
                 "[task] {}: examples, expected {} for {} shots, got {}", file.string(), shots,
                 shots, chains.blocks.size());
  std::string text = chains.description + "\n\n";
  for (int64_t i = 0; i < shots; ++i) {
    const std::string& block = chains.blocks[static_cast<size_t>(i)];
    text += (chains_shown ? block : answer_alone(block, file)) + "\n\n";
  }
  return text;
}

std::vector<std::string> chosen_tasks(const fs::path& directory,
                                      const std::vector<std::string>& wanted) {
  std::error_code failed;
  HEADLENS_CHECK(TaskError, fs::is_directory(directory, failed),
                 "[task] {}: directory, expected TASK.json files in it, got no directory",
                 directory.string());
  std::vector<std::string> known;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".json") known.push_back(entry.path().stem().string());
  }
  std::sort(known.begin(), known.end());
  HEADLENS_CHECK(TaskError, !known.empty(),
                 "[task] {}: directory, expected TASK.json files in it, got none",
                 directory.string());
  for (const std::string& task : wanted) {
    HEADLENS_CHECK(UsageError, std::find(known.begin(), known.end(), task) != known.end(),
                   "[task] bbh: task, expected one of the {} in {}, got '{}'{}", known.size(),
                   directory.string(), task, suggestion(task, known));
  }
  return wanted.empty() ? known : wanted;
}

std::vector<JsonLine> read_examples(const fs::path& file) {
  const JsonLine document(read_whole(file), file.string());
  std::vector<JsonLine> lines;
  for (const json& item : document.required("examples", "an array", &json::is_array)) {
    lines.emplace_back(item, fmt::format("{} example {}", file.string(), lines.size() + 1));
  }
  return lines;
}

GenerativeTask load(const DataSpec& spec, bool chains_shown) {
  const fs::path directory = spec.path;
  const int64_t shots = spec.number("shots"), limit = spec.number("n");
  GenerativeTask task;
  for (const std::string& name : chosen_tasks(directory / "bbh", listed(spec.text("tasks")))) {
    const std::string before =
        opening(directory / "cot-prompts" / (name + ".txt"), shots, chains_shown);
    int64_t count = 0;
    for (const JsonLine& line : read_examples(directory / "bbh" / (name + ".json"))) {
      if (limit > 0 && count++ == limit) break;
      GenerativeExample example;
      example.question = line.text("input");
      example.prompt = before + "Q: " + example.question;
      example.prompt.append(chains_shown ? kThink : "\nA:").append(chains_shown ? "\n" : "");
      example.target = line.text("target");
      example.kind = name;
      example.source = line.source();
      task.examples.push_back(std::move(example));
    }
  }
  return task;
}

}  // namespace

GenerativeTask load_bbh(const DataSpec& spec) {
  GenerativeTask task = load(spec, /*chains_shown=*/false);
  const bool examples = spec.number("shots") > 0;
  task.stop = examples ? std::vector<std::string>{"</s>", "Q", "\n\n"}
                       : std::vector<std::string>{"</s>", "Q:", "<|im_end|>"};
  const auto same = [](const std::string& answer, const GenerativeExample& example) {
    return bbh_normal(answer) == bbh_normal(example.target);
  };
  AnswerRule whole{"strict-match",
                   [](const std::string& text, const GenerativeExample&) { return text; }, same};
  AnswerRule found{"flexible-extract",
                   [](const std::string& text, const GenerativeExample& example) {
                     return bbh_flexible(example.kind, example.question, text);
                   },
                   same};
  task.rules = {std::move(whole), std::move(found)};
  return task;
}

GenerativeTask load_bbh_cot(const DataSpec& spec) {
  GenerativeTask task = load(spec, /*chains_shown=*/true);
  task.stop = {"</s>", "Q", "\n\n"};
  task.rules = {
      {"get-answer",
       [](const std::string& text, const GenerativeExample&) { return bbh_cot_answer(text); },
       [](const std::string& answer, const GenerativeExample& example) {
         return answer == example.target;
       }}};
  return task;
}

}  // namespace headlens
