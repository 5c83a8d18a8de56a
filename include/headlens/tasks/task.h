// headlens/tasks: tasks by name, and their way to token ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

class Tokenizer;

/// Examples with the spec they were made from.
struct Task {
  TaskInfo info;                  ///< where it came from
  std::vector<Example> examples;  ///< in the task's order
};

/// Makes a task from its one-string spec: `kv:pairs=20,n=512`, `mcq:options=4,n=512`,
/// `world-facts:n=240`, `world-mcq:options=4,n=512` or `jsonl:FILE`. The same spec and seed give
/// the same examples on every platform, and a smaller n gives the first n of them. Throws
/// UsageError for an unknown task or parameter (naming the known ones) and a value out of range,
/// TaskError "[task] FILE line N: ..." for bad data.
Task make_task(std::string_view spec, uint64_t seed);

/// The specs make_task knows, with their defaults, for help texts.
std::vector<std::string> known_tasks();

/// The token ids of an example. A choice's tokens are tokens(prompt + choice) past tokens(prompt),
/// by count. `bos`: put in front what the tokenizer's post-processor puts there (nothing if it has
/// none); segments are shifted with it. Throws TaskError, naming the example's source, for an empty
/// prompt, a choice without tokens, or a segment out of the prompt.
TokenizedExample tokenize(const Example& example, const Tokenizer& tokenizer, bool bos = false);

/// All examples of a task.
std::vector<TokenizedExample> tokenize(const Task& task, const Tokenizer& tokenizer,
                                       bool bos = false);

}  // namespace headlens
