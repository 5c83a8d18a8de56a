// headlens/tasks: specs of tasks that are read from files: "mmlu:DIR,shots=5".
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tasks/task_spec.h"

namespace headlens {

/// A parameter with a text value; of an integer one the range is checked too.
struct DataParam {
  std::string name;
  std::string fallback;
  int64_t low = 0;
  int64_t high = -1;  // below low: any text
};

/// What follows the colon, taken apart. The path ends before the first ",name=".
struct DataSpec {
  std::string path;
  std::map<std::string, std::string> values;  // defaults included

  const std::string& text(const std::string& name) const { return values.at(name); }
  /// The number of an integer parameter; 0 for "all".
  int64_t number(const std::string& name) const;
};

/// Throws UsageError for no path, an unknown or repeated parameter, and a value out of range. An
/// integer parameter also takes its fallback's word ("all").
DataSpec read_data_spec(const TaskSpec& spec, const std::string& kind,
                        const std::vector<DataParam>& params);

/// "a+b" as a and b; nothing for "all".
std::vector<std::string> listed(const std::string& value);

/// "mmlu:DIR,shots=5,...", for help texts.
std::string data_usage(const std::string& name, const std::string& kind,
                       const std::vector<DataParam>& params);

}  // namespace headlens
