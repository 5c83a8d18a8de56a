// headlens/tasks: the one-string specs of tasks.
#include "tasks/task_spec.h"

#include <fmt/ranges.h>

#include <charconv>

#include "core/check.h"

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

int64_t edit_distance(std::string_view a, std::string_view b) {
  const size_t width = b.size() + 1;
  std::vector<int64_t> table((a.size() + 1) * width);
  const auto at = [&](size_t i, size_t j) -> int64_t& { return table[i * width + j]; };
  for (size_t i = 0; i <= a.size(); ++i) at(i, 0) = static_cast<int64_t>(i);
  for (size_t j = 0; j <= b.size(); ++j) at(0, j) = static_cast<int64_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t replaced = at(i - 1, j - 1) + (a[i - 1] == b[j - 1] ? 0 : 1);
      at(i, j) = std::min({at(i - 1, j) + 1, at(i, j - 1) + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) at(i, j) = std::min(at(i, j), at(i - 2, j - 2) + 1);
    }
  }
  return table.back();
}

std::string suggestion(std::string_view name, const std::vector<std::string>& known) {
  const std::string* best = nullptr;
  int64_t best_distance = 3;  // further away is another word, not a slip
  for (const std::string& candidate : known) {
    const int64_t distance = edit_distance(name, candidate);
    const int64_t shorter = static_cast<int64_t>(std::min(name.size(), candidate.size()));
    if (distance < best_distance && distance < shorter) {
      best = &candidate;
      best_distance = distance;
    }
  }
  return best == nullptr ? "" : fmt::format(" (did you mean '{}'?)", *best);
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
