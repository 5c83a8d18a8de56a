// headlens/cli: what `graft` found, as JSON and text.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"
#include "headlens/analysis/grafting.h"
#include "headlens/tasks/types.h"

namespace headlens::cli {

struct GraftedTask {
  TaskInfo info;
  bool knowledge = false;  // given by --knowledge
  SweepOutcome base;       // the recipient as it is
};

/// A graft, or an attention head in place of an SSM head, on every task.
struct GraftRow {
  GraftPlan plan = {};
  HeadPlace head = {};     // without a plan: where the attention head stands,
  const char* state = "";  // and whether it is "fresh" or "trained"
  std::vector<GraftOutcome> tasks = {};
};

struct GraftFound {
  std::vector<GraftedTask> tasks;
  std::vector<GraftRow> rows;
};

Json graft_json(const GraftFound& found);
std::string graft_text(const GraftFound& found);

}  // namespace headlens::cli
