// headlens/tasks: one line of each evaluation set as a question.
#include "tasks/question_docs.h"

#include <algorithm>

#include "core/check.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

using nlohmann::json;

struct LabelledChoices {
  std::vector<std::string> texts;
  std::vector<std::string> labels;
};

/// {"text": [...], "label": [...]} as the hub has them, or [{"text", "label"}...] as AI2 does.
LabelledChoices read_choices(const JsonLine& line) {
  LabelledChoices out;
  if (line.is("choices", &json::is_array)) {
    const json& list = line.required("choices", "an array", &json::is_array);
    for (size_t i = 0; i < list.size(); ++i) {
      const JsonLine choice(list[i], fmt::format("{} choice {}", line.source(), i));
      out.texts.push_back(choice.text("text"));
      out.labels.push_back(choice.text("label"));
    }
  } else {
    const JsonLine choices = line.object("choices");
    out = {choices.strings("text", 2), choices.strings("label", 2)};
  }
  HEADLENS_CHECK(TaskError, out.texts.size() == out.labels.size(),
                 "[task] {}: 'choices', expected a label for each of {} texts, got {}",
                 line.source(), out.texts.size(), out.labels.size());
  HEADLENS_CHECK(TaskError, out.texts.size() >= 2,
                 "[task] {}: 'choices', expected at least 2, got {}", line.source(),
                 out.texts.size());
  return out;
}

void answer_by_label(const JsonLine& line, LabelledChoices choices, HarnessDoc& doc) {
  const std::string key(python_strip(line.text("answerKey")));
  const auto label = std::find(choices.labels.begin(), choices.labels.end(), key);
  HEADLENS_CHECK(TaskError, label != choices.labels.end(),
                 "[task] {}: 'answerKey', expected a label of its choices, got '{}'", line.source(),
                 key);
  doc.answer = label - choices.labels.begin();
  doc.choices = std::move(choices.texts);
}

HarnessDoc new_doc(const JsonLine& line) {
  HarnessDoc doc;
  doc.source = line.source();
  doc.everything = line.everything();
  return doc;
}

/// A question whose template is filled in already.
bool is_prepared(const JsonLine& line) {
  return line.has("query") && line.has("gold");
}

HarnessDoc prepared_doc(const JsonLine& line) {
  HarnessDoc doc = new_doc(line);
  doc.text = line.text("query");
  doc.choices = line.strings("choices", 2);
  doc.answer = line.index("gold", std::ssize(doc.choices));
  return doc;
}

/// The question of ARC and OpenBookQA with its answers, `key` being the hub's name for its text.
HarnessDoc science_doc(const JsonLine& line, const char* key) {
  HarnessDoc doc = new_doc(line);
  const bool published = line.is("question", &json::is_object);
  const JsonLine holder = published ? line.object("question") : line;
  doc.text = holder.text(published ? "stem" : key);
  answer_by_label(line, read_choices(holder), doc);
  return doc;
}

/// An integer, or a string that holds one.
int64_t label_of(const JsonLine& line, const char* key, int64_t count) {
  if (!line.is(key, &json::is_string)) return line.index(key, count);
  const std::string text(python_strip(line.string(key)));
  const bool fits = text.size() == 1 && text[0] >= '0' && text[0] < '0' + count;
  HEADLENS_CHECK(TaskError, fits, "[task] {}: '{}', expected 0 to {}, got '{}'", line.source(), key,
                 count - 1, text);
  return text[0] - '0';
}

/// Deletes "[...]", the shortest from each "[", none across a newline.
std::string without_brackets(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t close = text[at] == '[' ? text.find_first_of("]\n", at) : std::string::npos;
    if (close != std::string::npos && text[close] == ']') {
      at = close + 1;
    } else {
      out += text[at++];
    }
  }
  return out;
}

}  // namespace

HarnessDoc arc_doc(const JsonLine& line) {
  if (is_prepared(line)) return prepared_doc(line);
  HarnessDoc doc = science_doc(line, "question");
  doc.text = "Question: " + doc.text + "\nAnswer:";
  return doc;
}

HarnessDoc openbookqa_doc(const JsonLine& line) {
  return science_doc(line, "question_stem");
}

HarnessDoc piqa_doc(const JsonLine& line, const std::string* label) {
  HarnessDoc doc = new_doc(line);
  doc.text = "Question: " + line.text("goal") + "\nAnswer:";
  doc.choices = {line.text("sol1"), line.text("sol2")};
  if (label == nullptr) {
    doc.answer = label_of(line, "label", 2);
    return doc;
  }
  HEADLENS_CHECK(TaskError, *label == "0" || *label == "1",
                 "[task] {}: its line of the labels, expected 0 or 1, got '{}'", line.source(),
                 *label);
  doc.answer = *label == "1" ? 1 : 0;
  return doc;
}

std::string hellaswag_text(const std::string& text) {
  const std::string plain = replace_all(python_strip(text), " [title]", ". ");
  return replace_all(without_brackets(plain), "  ", " ");
}

HarnessDoc hellaswag_doc(const JsonLine& line) {
  if (is_prepared(line)) return prepared_doc(line);
  HarnessDoc doc = new_doc(line);
  const std::string context = line.string("ctx_a") + " " + python_capitalize(line.string("ctx_b"));
  doc.text = hellaswag_text(line.string("activity_label") + ": " + context);
  for (const std::string& ending : line.strings("endings", 2)) {
    doc.choices.push_back(hellaswag_text(ending));
  }
  doc.answer = label_of(line, "label", std::ssize(doc.choices));
  return doc;
}

HarnessDoc winogrande_doc(const JsonLine& line) {
  HarnessDoc doc = new_doc(line);
  const std::string sentence = line.text("sentence");
  const size_t blank = sentence.find('_');
  HEADLENS_CHECK(TaskError, blank != std::string::npos,
                 "[task] {}: 'sentence', expected a blank '_' in it, got none", line.source());
  doc.text = sentence.substr(0, blank);
  doc.leads = {line.text("option1"), line.text("option2")};
  const std::string rest(python_strip(sentence.substr(blank + 1)));
  doc.choices = {rest, rest};
  const std::string answer = line.text("answer");
  HEADLENS_CHECK(TaskError, answer == "1" || answer == "2",
                 "[task] {}: 'answer', expected \"1\" or \"2\", got '{}'", line.source(), answer);
  doc.answer = answer[0] - '1';
  return doc;
}

}  // namespace headlens
