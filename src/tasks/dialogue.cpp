// headlens/tasks: multiple choice about dialogues, DREAM and MuTual, from local files.
#include "headlens/tasks/dialogue.h"

#include <algorithm>

#include "core/check.h"
#include "core/json_fields.h"
#include "tasks/harness_prompt.h"
#include "tasks/json_line.h"
#include "tasks/prompts.h"
#include "tasks/python_text.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

HarnessDoc letters_doc(const std::string& question, const std::vector<std::string>& options) {
  HarnessDoc doc;
  PromptText listed = letters_text(question, options);
  doc.text = std::move(listed.text);
  doc.spans = std::move(listed.spans);
  for (int64_t i = 0; i < std::ssize(options); ++i) doc.choices.push_back(letter(i));
  return doc;
}

Example to_example(const HarnessDoc& doc, DialogueForm form) {
  Example example = harness_example("", {}, doc);
  if (form == DialogueForm::Letters) example.lengths.clear();  // letters have one length
  return example;
}

json parse_file(const fs::path& file) {
  try {
    return parse_json(read_whole(file), "text");
  } catch (const ConfigError& error) {
    const std::string_view what = error.what();  // "[text:1:9] text, expected valid JSON, got ..."
    HEADLENS_FAIL(TaskError, "[task] {}: {}", file.string(), what.substr(what.find("] ") + 2));
  }
}

/// The turns of a dialogue, one a line.
std::string dialogue_text(const json& turns, const std::string& source) {
  HEADLENS_CHECK(TaskError, JsonType<std::vector<std::string>>::fits(turns),
                 "[task] {}: turns, expected an array of strings, got {}", source,
                 describe_json(turns));
  std::string text;
  for (const json& turn : turns) {
    if (!text.empty()) text += '\n';
    text += turn.get<std::string>();
  }
  return text;
}

Example dream_question(const std::string& dialogue, const JsonLine& line, DialogueForm form) {
  const std::string question = line.text("question"), answer = line.text("answer");
  const std::vector<std::string> options = line.strings("choice", 2);
  HEADLENS_CHECK(TaskError, std::ssize(options) <= kMaxLetters,
                 "[task] {}: 'choice', expected at most {}, got {}", line.source(), kMaxLetters,
                 options.size());
  const auto right = std::find(options.begin(), options.end(), answer);
  HEADLENS_CHECK(TaskError, right != options.end(),
                 "[task] {}: 'answer', expected one of the choices, got '{}'", line.source(),
                 answer);
  HarnessDoc doc;
  if (form == DialogueForm::Letters) {
    doc = letters_doc(dialogue + "\n\n" + question, options);
  } else {
    doc.text = dialogue + "\n\nQuestion: " + question + "\nAnswer:";
    doc.choices = options;
  }
  doc.answer = right - options.begin();
  doc.source = line.source();
  return to_example(doc, form);
}

std::vector<fs::path> text_files(const fs::path& directory) {
  std::error_code failed;
  HEADLENS_CHECK(TaskError, fs::is_directory(directory, failed),
                 "[task] {}: directory, expected .txt files in it, got no directory",
                 directory.string());
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  HEADLENS_CHECK(TaskError, !files.empty(),
                 "[task] {}: directory, expected .txt files in it, got none", directory.string());
  return files;
}

Example mutual_example(const fs::path& file, DialogueForm form) {
  const JsonLine line(parse_file(file), file.string());
  const std::string article = mutual_text(line.text("article")), answers = line.text("answers");
  std::vector<std::string> options;
  for (const std::string& option : line.strings("options", 2)) {
    options.push_back(mutual_text(option));
  }
  const int64_t count = std::min(std::ssize(options), std::ptrdiff_t{kMaxLetters});
  const bool known = answers.size() == 1 && answers[0] >= 'A' && answers[0] < 'A' + count;
  HEADLENS_CHECK(TaskError, known, "[task] {}: 'answers', expected A to {}, got '{}'",
                 line.source(), letter(count - 1), answers);
  HarnessDoc doc;
  if (form == DialogueForm::Letters) {
    doc = letters_doc(article + "\n\nWhich reply comes next?", options);
  } else {
    doc.text = article;
    doc.choices = options;
  }
  doc.answer = answers[0] - 'A';
  doc.source = line.source();
  return to_example(doc, form);
}

}  // namespace

std::string mutual_text(std::string_view text) {
  std::string out(text);
  constexpr std::pair<const char*, const char*> kChanges[] = {
      {" '", "'"}, {" \n", "\n"}, {"\n ", "\n"}, {" n't", "n't"}, {"`` ", "\""}, {"''", "\""},
      {" :", ":"}, {" ;", ";"},   {" !", "!"},   {" ?", "?"},     {" ,", ","},   {" .", "."}};
  for (const auto& [from, to] : kChanges) out = replace_all(out, from, to);
  return out;
}

std::vector<Example> load_dream(const fs::path& file, const DialogueOptions& options) {
  const json document = parse_file(file);
  HEADLENS_CHECK(TaskError, document.is_array() && !document.empty(),
                 "[task] {}: dialogues, expected an array of them, got {}", file.string(),
                 describe_json(document));
  std::vector<Example> examples;
  for (size_t d = 0; d < document.size(); ++d) {
    const json& item = document[d];
    const std::string source = fmt::format("{} dialogue {}", file.string(), d + 1);
    HEADLENS_CHECK(TaskError, item.is_array() && item.size() >= 2 && item[1].is_array(),
                   "[task] {}: value, expected [turns, questions, id], got {}", source,
                   describe_json(item));
    const std::string dialogue = dialogue_text(item[0], source);
    for (size_t q = 0; q < item[1].size(); ++q) {
      if (options.n > 0 && std::ssize(examples) == options.n) return examples;
      const JsonLine line(item[1][q], fmt::format("{} question {}", source, q + 1));
      examples.push_back(dream_question(dialogue, line, options.form));
    }
  }
  return examples;
}

std::vector<Example> load_mutual(const fs::path& directory, const DialogueOptions& options) {
  std::vector<Example> examples;
  for (const fs::path& file : text_files(directory)) {
    if (options.n > 0 && std::ssize(examples) == options.n) break;
    examples.push_back(mutual_example(file, options.form));
  }
  return examples;
}

}  // namespace headlens
