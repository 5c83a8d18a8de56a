// headlens/tasks: tasks answered in free text: prompts, where an answer ends, how it is read.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// A prompt to be continued, and the right answer as the set states it.
struct GenerativeExample {
  std::string prompt;    ///< to be continued
  std::string question;  ///< the end of the prompt that is this example's own, as the set has it
  std::string target;    ///< the right answer
  std::string kind;      ///< the part of the set it is of ("date_understanding"), or ""
  std::string source;    ///< where it came from, for messages
};

/// One way of reading an answer out of a completion ("strict-match", "flexible-extract").
struct AnswerRule {
  std::string name;  ///< as the harness names it
  /// The answer, kNoAnswer if there is none.
  std::function<std::string(const std::string& completion, const GenerativeExample& example)>
      extract;
  /// Whether an extracted answer is the target.
  std::function<bool(const std::string& answer, const GenerativeExample& example)> is_right;
};

/// What `extract` returns where a completion holds no answer.
inline constexpr const char* kNoAnswer = "[invalid]";

/// Prompts with all that generating and judging needs. Decoding is greedy.
struct GenerativeTask {
  TaskInfo info;                            ///< where it came from
  std::vector<GenerativeExample> examples;  ///< in the set's order
  std::vector<std::string> stop;            ///< a completion ends before the first of these
  int64_t max_new_tokens = 256;             ///< of one completion
  std::vector<AnswerRule> rules;            ///< at least one; the first is the task's own measure
};

/// Makes a task from its spec: `gsm8k:FILE,shots=5,examples=FILE`, `gsm8k-cot:FILE,shots=8,...`,
/// `bbh:DIR`, `bbh-cot:DIR` (docs/tasks.md). Throws UsageError and TaskError as make_task does.
GenerativeTask make_generative_task(std::string_view spec);

/// Whether `spec` names a generative task.
bool is_generative_task(std::string_view spec);

/// The specs make_generative_task knows, for help texts.
std::vector<std::string> known_generative_tasks();

/// The completion up to the first of the task's stop strings.
std::string cut_at_stop(std::string_view completion, const std::vector<std::string>& stop);

/// Whether a completion (cut already) holds the right answer by `rule`.
bool judge_completion(const AnswerRule& rule, const std::string& completion,
                      const GenerativeExample& example);

}  // namespace headlens
