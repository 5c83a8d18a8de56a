// headlens/tasks: specs of tasks that are read from files: "mmlu:DIR,shots=5".
#include "tasks/data_spec.h"

#include <algorithm>

#include "core/check.h"

namespace headlens {
namespace {

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || c == '_' || c == '-';
}

/// Where ",name=" begins; the end if it does nowhere.
size_t parameters_begin(std::string_view text, size_t from = 0) {
  for (size_t comma = text.find(',', from); comma != std::string_view::npos;
       comma = text.find(',', comma + 1)) {
    size_t end = comma + 1;
    while (end < text.size() && is_name(text[end])) ++end;
    if (end > comma + 1 && end < text.size() && text[end] == '=') return comma;
  }
  return text.size();
}

}  // namespace

int64_t DataSpec::number(const std::string& name) const {
  const std::string& value = values.at(name);
  return value == "all" ? 0 : std::stoll(value);
}

DataSpec read_data_spec(const TaskSpec& spec, const std::string& kind,
                        const std::vector<DataParam>& params) {
  DataSpec out;
  std::vector<std::string> names;
  for (const DataParam& param : params) names.push_back(param.name);
  const std::string& rest = spec.rest;
  size_t at = parameters_begin(rest);
  out.path = rest.substr(0, at);
  HEADLENS_CHECK(UsageError, !out.path.empty(), "[task] {}, expected {}:{}, got no path", spec.name,
                 spec.name, kind);
  while (at < rest.size()) {
    const size_t end = parameters_begin(rest, at + 1);
    const std::string part = rest.substr(at + 1, end - at - 1);
    const std::string name = part.substr(0, part.find('='));
    const std::string value = part.substr(name.size() + 1);
    const auto param = std::find_if(params.begin(), params.end(),
                                    [&](const DataParam& known) { return known.name == name; });
    if (param == params.end()) fail_unknown_parameter(spec.name, name, names);
    HEADLENS_CHECK(UsageError, out.values.emplace(name, value).second,
                   "[task] {}: parameter '{}', expected once, got it twice", spec.name, name);
    if (param->low <= param->high && value != param->fallback) {
      const int64_t read = read_integer(spec, {name, 0, param->low, param->high}, value);
      out.values[name] = std::to_string(read);
    }
    at = end;
  }
  for (const DataParam& param : params) out.values.try_emplace(param.name, param.fallback);
  return out;
}

std::vector<std::string> listed(const std::string& value) {
  if (value == "all" || value.empty()) return {};
  std::vector<std::string> out(1);
  for (const char c : value) {
    c == '+' ? out.emplace_back() : out.back() += c;
  }
  return out;
}

std::string data_usage(const std::string& name, const std::string& kind,
                       const std::vector<DataParam>& params) {
  std::string usage = name + ":" + kind;
  for (const DataParam& param : params) {
    if (!param.fallback.empty()) usage += "," + param.name + "=" + param.fallback;
  }
  return usage;
}

}  // namespace headlens
