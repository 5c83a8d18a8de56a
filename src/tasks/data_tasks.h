// headlens/tasks: the tasks that are read from files of published evaluation sets.
#pragma once

#include <string>
#include <vector>

#include "headlens/tasks/types.h"
#include "tasks/data_spec.h"

namespace headlens {

/// A task read from a file or directory; it takes no seed.
struct DataTask {
  std::string name;
  std::string kind;  // "DIR" or "FILE", for messages
  std::vector<DataParam> params;
  std::vector<Example> (*load)(const DataSpec& spec);
};

const std::vector<DataTask>& data_tasks();

}  // namespace headlens
