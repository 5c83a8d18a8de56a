// headlens/tasks: the one-string specs of tasks.
#include "tasks/task_spec.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "core/check.h"
#include "core/near_words.h"

namespace headlens {
namespace {

std::vector<std::string> names_of(const std::vector<TaskParam>& params) {
  std::vector<std::string> names;
  for (const TaskParam& param : params) names.push_back(param.name);
  return names;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

int64_t read_integer(const TaskSpec& spec, const TaskParam& param, std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty();
  HEADLENS_CHECK(UsageError, whole && value >= param.low && value <= param.high,
                 "[task] {}: {}, expected an integer {} to {}, got '{}'", spec.name, param.name,
                 param.low, param.high, text);
  return value;
}

void fail_unknown_parameter(const std::string& task, const std::string& name,
                            const std::vector<std::string>& known) {
  HEADLENS_FAIL(UsageError, "[task] {}: parameter, expected one of {}, got '{}'{}", task,
                fmt::join(known, ", "), name, suggestion(name, known));
}

TaskSpec split_spec(std::string_view spec) {
  const size_t colon = spec.find(':');
  if (colon == std::string_view::npos) return {std::string(spec), "", false};
  return {std::string(spec.substr(0, colon)), std::string(spec.substr(colon + 1)), true};
}

std::map<std::string, int64_t> read_params(const TaskSpec& spec,
                                           const std::vector<TaskParam>& params) {
  std::map<std::string, int64_t> values;
  for (const std::string_view part : split(spec.rest, ',')) {
    if (!spec.has_rest) break;
    const size_t equals = part.find('=');
    HEADLENS_CHECK(UsageError, equals != std::string_view::npos,
                   "[task] {}: parameters, expected name=value, got '{}'", spec.name, part);
    const std::string name(part.substr(0, equals));
    const auto param = std::find_if(params.begin(), params.end(),
                                    [&](const TaskParam& known) { return known.name == name; });
    if (param == params.end()) fail_unknown_parameter(spec.name, name, names_of(params));
    HEADLENS_CHECK(UsageError, !values.contains(name),
                   "[task] {}: parameter '{}', expected once, got it twice", spec.name, name);
    values[name] = read_integer(spec, *param, part.substr(equals + 1));
  }
  for (const TaskParam& param : params) values.try_emplace(param.name, param.fallback);
  return values;
}

}  // namespace headlens
