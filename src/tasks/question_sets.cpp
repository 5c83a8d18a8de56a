// headlens/tasks: ARC, OpenBookQA, PIQA, HellaSwag, Winogrande, prompts as lm-evaluation-harness
// 0.4.
#include "headlens/tasks/question_sets.h"

#include <algorithm>

#include "core/check.h"
#include "tasks/python_text.h"
#include "tasks/question_docs.h"

namespace headlens {
namespace {

namespace fs = std::filesystem;

/// PIQA's labels: the file named, or FILE-labels.lst beside FILE.jsonl where lines have none.
std::vector<std::string> piqa_labels(const fs::path& file, const fs::path& named, size_t lines) {
  const fs::path labels =
      named.empty() ? file.parent_path() / (file.stem().string() + "-labels.lst") : named;
  std::vector<std::string> out;
  for (const std::string& line : read_lines(labels)) {
    out.emplace_back(python_strip(line));
  }
  HEADLENS_CHECK(TaskError, out.size() == lines,
                 "[task] {}: labels, expected {}, one a line of {}, "
                 "got {}",
                 labels.string(), lines, file.string(), out.size());
  return out;
}

std::vector<HarnessDoc> read_piqa(const fs::path& file, const fs::path& named) {
  const std::vector<JsonLine> lines = read_json_lines(file);
  std::vector<std::string> labels;
  if (!named.empty() || !lines.front().has("label")) {
    labels = piqa_labels(file, named, lines.size());
  }
  std::vector<HarnessDoc> docs;
  for (size_t i = 0; i < lines.size(); ++i) {
    docs.push_back(piqa_doc(lines[i], labels.empty() ? nullptr : &labels[i]));
  }
  return docs;
}

std::vector<HarnessDoc> read_docs(QuestionSet set, const fs::path& file, const fs::path& labels) {
  if (set == QuestionSet::Piqa) return read_piqa(file, labels);
  HarnessDoc (*read)(const JsonLine&) = set == QuestionSet::Arc          ? arc_doc
                                        : set == QuestionSet::OpenBookQa ? openbookqa_doc
                                        : set == QuestionSet::HellaSwag  ? hellaswag_doc
                                                                         : winogrande_doc;
  std::vector<HarnessDoc> docs;
  for (const JsonLine& line : read_json_lines(file)) docs.push_back(read(line));
  return docs;
}

std::vector<HarnessDoc> read_pool(QuestionSet set, const QuestionSetOptions& options) {
  if (options.shots == 0) return {};
  HEADLENS_CHECK(UsageError, !options.examples.empty(),
                 "[task] examples, expected a file to take {} shots from, got none", options.shots);
  auto pool = read_docs(set, options.examples, {});
  HEADLENS_CHECK(TaskError, std::ssize(pool) >= options.shots,
                 "[task] {}: examples, expected {} for {} shots, got {}", options.examples.string(),
                 options.shots, options.shots, pool.size());
  return pool;
}

}  // namespace

std::vector<Example> load_question_set(QuestionSet set, const QuestionSetOptions& options) {
  HEADLENS_CHECK(UsageError, options.shots >= 0 && options.n >= 0,
                 "[task] shots, expected at least 0, got {}", options.shots);
  const auto docs = read_docs(set, options.file, options.labels);
  const auto pool = read_pool(set, options);
  std::error_code failed;
  const bool own = !pool.empty() && fs::equivalent(options.file, options.examples, failed);
  const int64_t count = options.n > 0 ? std::min(options.n, std::ssize(docs)) : std::ssize(docs);
  std::vector<Example> examples;
  for (int64_t i = 0; i < count; ++i) {
    const HarnessDoc& doc = docs[static_cast<size_t>(i)];
    const auto shots = first_shots(pool, doc, {options.shots, own});
    examples.push_back(harness_example("", shots, doc));
    // Both continuations are the same text: the harness has no normalised figure here.
    if (set == QuestionSet::Winogrande) examples.back().lengths.clear();
  }
  return examples;
}

}  // namespace headlens
