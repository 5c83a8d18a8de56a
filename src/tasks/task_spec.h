// headlens/tasks: the one-string specs of tasks.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace headlens {

/// A parameter of a task: an integer in low .. high.
struct TaskParam {
  std::string name;
  int64_t fallback;
  int64_t low;
  int64_t high;
};

/// "kv:pairs=20,n=512" as a name and what follows the first colon.
struct TaskSpec {
  std::string name;
  std::string rest;
  bool has_rest = false;
};
TaskSpec split_spec(std::string_view spec);

/// Values of all `params`, defaults included, from "pairs=20,n=512".
/// Throws UsageError for an unknown or repeated parameter, and a value out of range.
std::map<std::string, int64_t> read_params(const TaskSpec& spec,
                                           const std::vector<TaskParam>& params);

/// An integer within the parameter's range. Throws UsageError.
int64_t read_integer(const TaskSpec& spec, const TaskParam& param, std::string_view text);

/// Throws UsageError naming the known parameters and the nearest.
[[noreturn]] void fail_unknown_parameter(const std::string& task, const std::string& name,
                                         const std::vector<std::string>& known);

}  // namespace headlens
