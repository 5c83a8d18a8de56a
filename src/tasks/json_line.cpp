// headlens/tasks: one line of a JSON Lines file, read strictly.
#include "tasks/json_line.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "core/check.h"
#include "core/json_fields.h"
#include "core/near_words.h"
#include "tasks/task_spec.h"

namespace headlens {
namespace {

using nlohmann::json;

json parse_line(const std::string& text, const std::string& source) {
  try {
    return parse_json(text, "line");
  } catch (const ConfigError& error) {
    const std::string_view what = error.what();  // "[line:1:9] text, expected valid JSON, got ..."
    HEADLENS_FAIL(TaskError, "[task] {}: {}", source, what.substr(what.find("] ") + 2));
  }
}

}  // namespace

JsonLine::JsonLine(const std::string& text, std::string source)
    : value_(parse_line(text, source)), source_(std::move(source)) {
  check_object();
}

JsonLine::JsonLine(json value, std::string source)
    : value_(std::move(value)), source_(std::move(source)) {
  check_object();
}

void JsonLine::check_object() const {
  HEADLENS_CHECK(TaskError, value_.is_object(), "[task] {}: value, expected a JSON object, got {}",
                 source_, describe_json(value_));
}

bool JsonLine::is(const char* key, bool (json::*fits)() const noexcept) const {
  return has(key) && (value_[key].*fits)();
}

const json& JsonLine::required(const char* key, const char* kind,
                               bool (json::*fits)() const noexcept) const {
  const auto it = value_.find(key);
  HEADLENS_CHECK(TaskError, it != value_.end(), "[task] {}: '{}', expected in the line, got {}",
                 source_, key, near_key(key).value_or("none"));
  HEADLENS_CHECK(TaskError, (it.value().*fits)(), "[task] {}: '{}', expected {}, got {}", source_,
                 key, kind, describe_json(*it));
  return *it;
}

std::string JsonLine::string(const char* key) const {
  return required(key, "a string", &json::is_string).get<std::string>();
}

std::string JsonLine::text(const char* key) const {
  std::string value = string(key);
  HEADLENS_CHECK(TaskError, !value.empty(), "[task] {}: '{}', expected text, got none", source_,
                 key);
  return value;
}

int64_t JsonLine::integer(const json& value, const char* key) const {
  HEADLENS_CHECK(TaskError, JsonType<int64_t>::fits(value),
                 "[task] {}: '{}', expected an integer, got {}", source_, key,
                 describe_json(value));
  return value.get<int64_t>();
}

int64_t JsonLine::integer(const char* key) const {
  return integer(required(key, "an integer", &json::is_number_integer), key);
}

int64_t JsonLine::index(const char* key, int64_t count) const {
  const int64_t value = integer(key);
  HEADLENS_CHECK(TaskError, value >= 0 && value < count,
                 "[task] {}: '{}', expected 0 to {}, got {}", source_, key, count - 1, value);
  return value;
}

std::vector<std::string> JsonLine::strings(const char* key, size_t least) const {
  const json& list = required(key, "an array", &json::is_array);
  HEADLENS_CHECK(TaskError, list.size() >= least, "[task] {}: '{}', expected at least {}, got {}",
                 source_, key, least, list.size());
  HEADLENS_CHECK(TaskError, JsonType<std::vector<std::string>>::fits(list),
                 "[task] {}: '{}', expected strings, got {}", source_, key, describe_json(list));
  return list.get<std::vector<std::string>>();
}

JsonLine JsonLine::object(const char* key) const {
  return {required(key, "an object", &json::is_object), source_ + " '" + key + "'"};
}

std::optional<std::string> JsonLine::near_key(const char* key) const {
  for (const auto& [name, value] : value_.items()) {
    if (name.size() <= std::strlen(key) + 2 && edit_distance(name, key) <= 2)
      return fmt::format("'{}'", name);
  }
  return std::nullopt;
}

std::string read_whole(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  HEADLENS_CHECK(TaskError, in.good() && !std::filesystem::is_directory(file),
                 "[task] {}: file, expected a readable one, got none", file.string());
  std::string bytes{std::istreambuf_iterator<char>(in), {}};
  HEADLENS_CHECK(TaskError, !in.bad(), "[task] {}: file, expected a readable one, got none",
                 file.string());
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.erase(0, 3);
  return bytes;
}

std::vector<std::string> read_lines(const std::filesystem::path& file) {
  const std::string bytes = read_whole(file);
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    lines.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::vector<JsonLine> read_json_lines(const std::filesystem::path& file) {
  std::vector<JsonLine> lines;
  int64_t number = 0;
  for (const std::string& text : read_lines(file)) {
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    lines.emplace_back(text, fmt::format("{} line {}", file.string(), number));
  }
  HEADLENS_CHECK(TaskError, !lines.empty(), "[task] {}: examples, expected at least one, got none",
                 file.string());
  return lines;
}

}  // namespace headlens
