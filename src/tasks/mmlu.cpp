// headlens/tasks: MMLU from a local directory, prompts as lm-evaluation-harness 0.4 makes them.
#include "headlens/tasks/mmlu.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/check.h"
#include "core/near_words.h"
#include "tasks/csv.h"
#include "tasks/harness_prompt.h"
#include "tasks/prompts.h"
#include "tasks/python_text.h"
#include "tasks/task_spec.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;
constexpr size_t kOptions = 4;

fs::path split_file(const fs::path& directory, const std::string& split,
                    const std::string& subject) {
  return directory / split / (subject + "_" + split + ".csv");
}

std::vector<std::string> subjects_of(const fs::path& directory, const std::string& split) {
  std::error_code failed;
  const fs::path folder = directory / split;
  HEADLENS_CHECK(TaskError, fs::is_directory(folder, failed),
                 "[task] {}: directory, expected SUBJECT_{}.csv files in it, got no directory",
                 folder.string(), split);
  const std::string ending = "_" + split + ".csv";
  std::vector<std::string> subjects;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(ending)) subjects.push_back(name.substr(0, name.size() - ending.size()));
  }
  std::sort(subjects.begin(), subjects.end());
  HEADLENS_CHECK(TaskError, !subjects.empty(),
                 "[task] {}: directory, expected SUBJECT_{}.csv files in it, got none",
                 folder.string(), split);
  return subjects;
}

std::vector<std::string> chosen_subjects(const fs::path& directory, const MmluOptions& options) {
  const std::vector<std::string> known = subjects_of(directory, options.split);
  for (const std::string& subject : options.subjects) {
    HEADLENS_CHECK(UsageError, std::find(known.begin(), known.end(), subject) != known.end(),
                   "[task] mmlu: subject, expected one of the {} in {}, got '{}'{}", known.size(),
                   (directory / options.split).string(), subject, suggestion(subject, known));
  }
  return options.subjects.empty() ? known : options.subjects;
}

HarnessDoc to_doc(const CsvRecord& record, MmluForm form, const std::string& file) {
  HarnessDoc doc;
  doc.source = fmt::format("{} line {}", file, record.line);
  HEADLENS_CHECK(TaskError, record.fields.size() == kOptions + 2,
                 "[task] {}: columns, expected 6 (question, A, B, C, D, letter), got {}",
                 doc.source, record.fields.size());
  const std::string& letter = record.fields.back();
  HEADLENS_CHECK(TaskError, letter.size() == 1 && letter[0] >= 'A' && letter[0] <= 'D',
                 "[task] {}: answer, expected A, B, C or D, got '{}'", doc.source, letter);
  doc.answer = letter[0] - 'A';
  doc.everything = fmt::format("{}", record.fields);
  const std::string question(python_strip(record.fields[0]));
  const std::vector<std::string> options(record.fields.begin() + 1, record.fields.end() - 1);
  if (form == MmluForm::Text) {
    doc.text = "Question: " + question + "\nAnswer:";
    doc.choices = options;
    return doc;
  }
  PromptText listed = letters_text(question, options);
  doc.text = std::move(listed.text);
  doc.spans = std::move(listed.spans);
  doc.choices = {"A", "B", "C", "D"};
  return doc;
}

std::vector<HarnessDoc> read_docs(const fs::path& file, MmluForm form) {
  std::vector<HarnessDoc> docs;
  for (const CsvRecord& record : read_csv(file)) {
    docs.push_back(to_doc(record, form, file.string()));
  }
  HEADLENS_CHECK(TaskError, !docs.empty(), "[task] {}: questions, expected at least one, got none",
                 file.string());
  return docs;
}

std::string description(const std::string& subject, MmluForm form) {
  const char* kind = form == MmluForm::Letters ? "multiple choice questions" : "questions";
  return fmt::format("The following are {} (with answers) about {}.\n\n", kind,
                     replace_all(subject, "_", " "));
}

void add_subject(const fs::path& directory, const std::string& subject, const MmluOptions& options,
                 std::vector<Example>& out) {
  const auto docs = read_docs(split_file(directory, options.split, subject), options.form);
  std::vector<HarnessDoc> pool;
  if (options.shots > 0) {
    const fs::path file = split_file(directory, "dev", subject);
    pool = read_docs(file, options.form);
    HEADLENS_CHECK(TaskError, std::ssize(pool) >= options.shots,
                   "[task] {}: questions, expected {} for {} shots, got {}", file.string(),
                   options.shots, options.shots, pool.size());
  }
  const std::string opening = description(subject, options.form);
  const int64_t count = options.n > 0 ? std::min(options.n, std::ssize(docs)) : std::ssize(docs);
  for (int64_t i = 0; i < count; ++i) {
    const HarnessDoc& doc = docs[static_cast<size_t>(i)];
    const auto shots = first_shots(pool, doc, {options.shots, options.split == "dev"});
    out.push_back(harness_example(opening, shots, doc));
    if (options.form == MmluForm::Letters) out.back().lengths.clear();  // letters have one length
  }
}

}  // namespace

std::vector<Example> load_mmlu(const fs::path& directory, const MmluOptions& options) {
  const bool known_split =
      options.split == "test" || options.split == "val" || options.split == "dev";
  HEADLENS_CHECK(UsageError, known_split, "[task] mmlu: split, expected test, val or dev, got '{}'",
                 options.split);
  HEADLENS_CHECK(UsageError, options.shots >= 0 && options.n >= 0,
                 "[task] mmlu: shots, expected at least 0, got {}", options.shots);
  std::vector<Example> examples;
  for (const std::string& subject : chosen_subjects(directory, options)) {
    add_subject(directory, subject, options, examples);
  }
  return examples;
}

}  // namespace headlens
