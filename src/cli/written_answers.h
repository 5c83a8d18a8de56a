// headlens/cli: `eval` of tasks whose answers are written, not chosen.
#pragma once

#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/output.h"

namespace headlens::cli {

/// Generates greedily after every prompt of the task and reads the answers out by its rules, with
/// the heads and MLPs named cut throughout. `json` has the accuracy by each rule with its 95 %
/// Wilson interval and every text; `text` the accuracies.
struct WrittenAnswers {
  Json json;
  std::string text;
};
WrittenAnswers evaluate_written(const CommonFlags& flags, const std::string& task,
                                const CutFlags& cut, const SweepOptions& options,
                                int64_t batch_tokens);

}  // namespace headlens::cli
