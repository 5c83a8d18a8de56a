// headlens/tasks: examples as JSON Lines.
#include "headlens/tasks/jsonl.h"

#include <fstream>

#include "core/check.h"
#include "core/json_fields.h"
#include "core/whole_file.h"
#include "headlens/model/tokenizer.h"
#include "headlens/tasks/task.h"
#include "tasks/task_spec.h"

namespace headlens {
namespace {

using nlohmann::json;

/// One line of a file; every error names it.
class Line {
 public:
  Line(const std::string& text, std::string source) : source_(std::move(source)) {
    value_ = parse(text);
    HEADLENS_CHECK(TaskError, value_.is_object(),
                   "[task] {}: value, expected a JSON object, got {}", source_,
                   describe_json(value_));
  }

  Example example() const {
    Example out;
    out.source = source_;
    out.prompt = required("prompt", "a string", &json::is_string).get<std::string>();
    HEADLENS_CHECK(TaskError, !out.prompt.empty(), "[task] {}: 'prompt', expected text, got none",
                   source_);
    out.choices = choices();
    out.answer = integer(required("answer", "an integer", &json::is_number_integer), "answer");
    HEADLENS_CHECK(TaskError, out.answer >= 0 && out.answer < std::ssize(out.choices),
                   "[task] {}: 'answer', expected 0 to {}, got {}", source_,
                   std::ssize(out.choices) - 1, out.answer);
    out.segments = segments();
    return out;
  }

 private:
  json parse(const std::string& text) const {
    try {
      return parse_json(text, "line");
    } catch (const ConfigError& error) {
      const std::string_view what =
          error.what();  // "[line:1:9] text, expected valid JSON, got ..."
      HEADLENS_FAIL(TaskError, "[task] {}: {}", source_, what.substr(what.find("] ") + 2));
    }
  }

  const json& required(const char* key, const char* kind,
                       bool (json::*fits)() const noexcept) const {
    const auto it = value_.find(key);
    HEADLENS_CHECK(TaskError, it != value_.end(), "[task] {}: '{}', expected in the line, got {}",
                   source_, key, near_key(key).value_or("none"));
    HEADLENS_CHECK(TaskError, (it.value().*fits)(), "[task] {}: '{}', expected {}, got {}", source_,
                   key, kind, describe_json(*it));
    return *it;
  }

  int64_t integer(const json& value, const char* what) const {
    HEADLENS_CHECK(TaskError, JsonType<int64_t>::fits(value),
                   "[task] {}: '{}', expected an integer, got {}", source_, what,
                   describe_json(value));
    return value.get<int64_t>();
  }

  std::vector<std::string> choices() const {
    const json& list = required("choices", "an array", &json::is_array);
    HEADLENS_CHECK(TaskError, list.size() >= 2, "[task] {}: 'choices', expected at least 2, got {}",
                   source_, list.size());
    HEADLENS_CHECK(TaskError, JsonType<std::vector<std::string>>::fits(list),
                   "[task] {}: 'choices', expected strings, got {}", source_, describe_json(list));
    return list.get<std::vector<std::string>>();
  }

  std::vector<Segment> segments() const {
    const auto list = value_.find("segments");
    if (list == value_.end()) {
      const auto slip = near_key("segments");
      HEADLENS_CHECK(TaskError, !slip, "[task] {}: 'segments', expected in the line, got {}",
                     source_, *slip);
      return {};
    }
    if (list->is_null()) return {};
    HEADLENS_CHECK(TaskError, list->is_array(), "[task] {}: 'segments', expected an array, got {}",
                   source_, describe_json(*list));
    std::vector<Segment> out;
    for (const json& item : *list) out.push_back(segment(item));
    return out;
  }

  Segment segment(const json& item) const {
    HEADLENS_CHECK(TaskError, item.is_array() && item.size() == 2,
                   "[task] {}: 'segments', expected [start, end] pairs, got {}", source_,
                   describe_json(item));
    const Segment out{integer(item[0], "segments"), integer(item[1], "segments")};
    HEADLENS_CHECK(TaskError, out.start >= 0 && out.start <= out.end,
                   "[task] {}: 'segments', expected 0 <= start <= end, got [{}, {}]", source_,
                   out.start, out.end);
    return out;
  }

  /// A misspelt key must not pass for an absent one.
  std::optional<std::string> near_key(const char* key) const {
    for (const auto& [name, value] : value_.items()) {
      if (edit_distance(name, key) <= 2) return fmt::format("'{}'", name);
    }
    return std::nullopt;
  }

  json value_;
  std::string source_;
};

json to_json(const Example& example, const Tokenizer& tokenizer) {
  json segments = json::array();
  for (const Segment& segment : tokenize(example, tokenizer).segments) {
    segments.push_back({segment.start, segment.end});
  }
  json line = {
      {"prompt", example.prompt}, {"choices", example.choices}, {"answer", example.answer}};
  if (!segments.empty()) line["segments"] = std::move(segments);
  return line;
}

}  // namespace

std::vector<Example> load_jsonl(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  HEADLENS_CHECK(TaskError, in.good() && !std::filesystem::is_directory(file),
                 "[task] {}: file, expected a readable one, got none", file.string());
  std::vector<Example> examples;
  std::string text;
  for (int64_t number = 1; std::getline(in, text); ++number) {
    if (number == 1 && text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    examples.push_back(Line(text, fmt::format("{} line {}", file.string(), number)).example());
  }
  HEADLENS_CHECK(TaskError, !in.bad(), "[task] {}: file, expected a readable one, got none",
                 file.string());
  HEADLENS_CHECK(TaskError, !examples.empty(),
                 "[task] {}: examples, expected at least one, got none", file.string());
  return examples;
}

void save_jsonl(const std::vector<Example>& examples, const Tokenizer& tokenizer,
                const std::filesystem::path& file) {
  std::string lines;
  for (const Example& example : examples) lines += to_json(example, tokenizer).dump() + '\n';
  write_whole_file(file, lines);
}

}  // namespace headlens
