// headlens/tasks: examples as JSON Lines.
#include "headlens/tasks/jsonl.h"

#include "core/check.h"
#include "core/json_fields.h"
#include "core/whole_file.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/task.h"
#include "tasks/json_line.h"

namespace headlens {
namespace {

using nlohmann::json;

Segment segment(const JsonLine& line, const json& item) {
  HEADLENS_CHECK(TaskError, item.is_array() && item.size() == 2,
                 "[task] {}: 'segments', expected [start, end] pairs, got {}", line.source(),
                 describe_json(item));
  const Segment out{line.integer(item[0], "segments"), line.integer(item[1], "segments")};
  HEADLENS_CHECK(TaskError, out.start >= 0 && out.start <= out.end,
                 "[task] {}: 'segments', expected 0 <= start <= end, got [{}, {}]", line.source(),
                 out.start, out.end);
  return out;
}

/// Whether an optional key is there. A misspelt key must not pass for an absent one.
bool offers(const JsonLine& line, const char* key) {
  if (line.has(key)) return true;
  const auto slip = line.near_key(key);
  HEADLENS_CHECK(TaskError, !slip || *slip == fmt::format("'{}'", key),
                 "[task] {}: '{}', expected in the line, got {}", line.source(), key, *slip);
  return false;
}

std::vector<Segment> segments(const JsonLine& line) {
  std::vector<Segment> out;
  if (!offers(line, "segments")) return out;
  for (const json& item : line.required("segments", "an array", &json::is_array)) {
    out.push_back(segment(line, item));
  }
  return out;
}

/// What each choice is preceded by, and how long it counts as: one a choice, or none at all.
void read_choice_details(const JsonLine& line, Example& out) {
  const auto check_count = [&](const char* key, size_t count) {
    HEADLENS_CHECK(TaskError, count == out.choices.size(),
                   "[task] {}: '{}', expected one a choice, {}, got {}", line.source(), key,
                   out.choices.size(), count);
  };
  if (offers(line, "choice_leads")) {
    out.leads = line.strings("choice_leads", 0);
    check_count("choice_leads", out.leads.size());
  }
  if (!offers(line, "choice_lengths")) return;
  for (const json& item : line.required("choice_lengths", "an array", &json::is_array)) {
    out.lengths.push_back(line.integer(item, "choice_lengths"));
    HEADLENS_CHECK(TaskError, out.lengths.back() > 0,
                   "[task] {}: 'choice_lengths', expected at least 1, got {}", line.source(),
                   out.lengths.back());
  }
  check_count("choice_lengths", out.lengths.size());
}

/// The prompt to patch with; both keys or neither.
void read_corrupted(const JsonLine& line, Example& out) {
  const bool prompt = offers(line, "corrupted"), answer = offers(line, "corrupted_answer");
  HEADLENS_CHECK(TaskError, prompt == answer,
                 "[task] {}: 'corrupted' and 'corrupted_answer', expected both, got one",
                 line.source());
  if (!prompt) return;
  out.corrupted = line.text("corrupted");
  out.corrupted_answer = line.index("corrupted_answer", std::ssize(out.choices));
}

Example to_example(const JsonLine& line) {
  Example out;
  out.source = line.source();
  out.prompt = line.string("prompt");
  out.choices = line.strings("choices", 2);
  out.answer = line.index("answer", std::ssize(out.choices));
  out.segments = segments(line);
  read_choice_details(line, out);
  read_corrupted(line, out);
  HEADLENS_CHECK(TaskError, !out.prompt.empty() || !out.leads.empty(),
                 "[task] {}: 'prompt', expected text, got none", line.source());
  return out;
}

json to_json(const Example& example, const Tokenizer& tokenizer) {
  json segments = json::array();
  for (const Segment& segment : tokenize(example, tokenizer).segments) {
    segments.push_back({segment.start, segment.end});
  }
  json line = {
      {"prompt", example.prompt}, {"choices", example.choices}, {"answer", example.answer}};
  if (!segments.empty()) line["segments"] = std::move(segments);
  if (!example.leads.empty()) line["choice_leads"] = example.leads;
  if (!example.lengths.empty()) line["choice_lengths"] = example.lengths;
  if (!example.corrupted.empty()) {
    line["corrupted"] = example.corrupted;
    line["corrupted_answer"] = example.corrupted_answer;
  }
  return line;
}

}  // namespace

std::vector<Example> load_jsonl(const std::filesystem::path& file) {
  std::vector<Example> examples;
  for (const JsonLine& line : read_json_lines(file)) examples.push_back(to_example(line));
  return examples;
}

void save_jsonl(const std::vector<Example>& examples, const Tokenizer& tokenizer,
                const std::filesystem::path& file) {
  std::string lines;
  for (const Example& example : examples) lines += to_json(example, tokenizer).dump() + '\n';
  write_whole_file(file, lines);
}

}  // namespace headlens
