// headlens/cli: answers that a model writes, read and judged by a task's rules.
#pragma once

#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/output.h"
#include "headlens/analysis/estimates.h"
#include "headlens/core/kept_steps.h"
#include "headlens/tasks/generative.h"

namespace headlens::cli {

/// What is cut while answers are written, and how many tokens are held in one forward.
struct WritingOptions {
  CutFlags cut;
  SweepOptions how;  // its mode and placement
  int64_t batch_tokens = 16384;
  KeptSteps steps = {};
};

/// Greedy completions of the task's prompts, one each.
std::vector<std::string> write_answers(const LoadedModel& loaded, const CommonFlags& flags,
                                       const GenerativeTask& task, const WritingOptions& options);

/// Whether each completion is right by `rule`: verdicts without probabilities.
SweepOutcome judge_answers(const GenerativeTask& task, const AnswerRule& rule,
                           const std::vector<std::string>& texts);

/// A digest of all that a model is asked.
std::string prompts_digest(const std::vector<std::string>& prompts);

/// `eval` of tasks whose answers are written: `json` has the accuracy by each rule with its 95 %
/// Wilson interval and every text; `text` the accuracies.
struct WrittenAnswers {
  Json json;
  std::string text;
};
WrittenAnswers evaluate_written(const LoadedModel& loaded, const CommonFlags& flags,
                                const std::string& spec, const GenerativeTask& task,
                                const WritingOptions& options);

}  // namespace headlens::cli
