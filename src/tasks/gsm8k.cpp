// headlens/tasks: GSM8K from local files.
#include "tasks/gsm8k.h"

#include <algorithm>

#include "core/check.h"
#include "tasks/answers.h"
#include "tasks/json_line.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

constexpr const char* kMark = "####";

/// How a question is put and what its answer is.
struct Form {
  std::string question;  // before it
  std::string answer;    // after it
  bool last_part_is_target = false;
};

/// "question" with "answer" (the set's own solution) or "target" (a chain of thought).
std::string shown(const JsonLine& line, const Form& form) {
  const std::string solution = line.text(line.has("target") ? "target" : "answer");
  return form.question + line.text("question") + form.answer + " " + solution + "\n\n";
}

std::string examples_text(const DataSpec& spec, const Form& form) {
  const int64_t shots = spec.number("shots");
  if (shots == 0) return "";
  const std::string& file = spec.text("examples");
  HEADLENS_CHECK(UsageError, !file.empty(),
                 "[task] examples, expected a file to take {} shots from, got none", shots);
  const auto lines = read_json_lines(file);
  HEADLENS_CHECK(TaskError, std::ssize(lines) >= shots,
                 "[task] {}: examples, expected {} for {} shots, got {}", file, shots, shots,
                 lines.size());
  std::string text;
  for (int64_t i = 0; i < shots; ++i) text += shown(lines[static_cast<size_t>(i)], form);
  return text;
}

std::string target_of(const std::string& answer, const Form& form) {
  if (!form.last_part_is_target) return answer;
  const size_t mark = answer.rfind(kMark);
  const size_t begin = mark == answer.npos ? 0 : mark + std::string_view(kMark).size();
  return std::string(python_strip(std::string_view(answer).substr(begin)));
}

AnswerRule rule(std::string name, std::string (*read)(std::string_view)) {
  AnswerRule out;
  out.name = std::move(name);
  out.extract = [read](const std::string& text, const GenerativeExample&) { return read(text); };
  out.is_right = [](const std::string& answer, const GenerativeExample& example) {
    return gsm8k_normal(answer) == gsm8k_normal(example.target);
  };
  return out;
}

GenerativeTask load(const DataSpec& spec, const Form& form) {
  const std::string opening = examples_text(spec, form);
  const auto lines = read_json_lines(spec.path);
  const int64_t limit = spec.number("n");
  GenerativeTask task;
  for (const JsonLine& line : lines) {
    if (limit > 0 && std::ssize(task.examples) == limit) break;
    GenerativeExample example;
    example.question = line.text("question");
    example.prompt = opening + form.question + example.question + form.answer;
    example.target = target_of(line.text("answer"), form);
    example.source = line.source();
    task.examples.push_back(std::move(example));
  }
  return task;
}

}  // namespace

GenerativeTask load_gsm8k(const DataSpec& spec) {
  GenerativeTask task = load(spec, {"Question: ", "\nAnswer:", /*last_part_is_target=*/false});
  task.stop = {"Question:", "</s>", "<|im_end|>"};
  task.rules = {rule("strict-match", gsm8k_strict), rule("flexible-extract", gsm8k_flexible)};
  return task;
}

GenerativeTask load_gsm8k_cot(const DataSpec& spec) {
  GenerativeTask task = load(spec, {"Q: ", "\nA:", /*last_part_is_target=*/true});
  task.stop = {"Q:", "</s>", "<|im_end|>"};
  task.rules = {rule("strict-match", gsm8k_cot_strict), rule("flexible-extract", gsm8k_flexible)};
  return task;
}

}  // namespace headlens
