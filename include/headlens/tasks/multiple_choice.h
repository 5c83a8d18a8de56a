// headlens/tasks: letter retrieval, the skill that multiple-choice tests share.
#pragma once

#include <cstdint>
#include <vector>

#include "headlens/tasks/types.h"

namespace headlens {

/// Options of the task mcq.
struct MultipleChoiceOptions {
  int64_t options = 4;  ///< 2 .. 8
  int64_t n = 512;      ///< examples
};

/// "Which option is word?\nA. word\nB. word\n...Answer:" with the choices " A", " B", ...; span i
/// is the whole line of option i with its newline, which is the summary token. Needs no knowledge:
/// the word is in the prompt.
std::vector<Example> make_multiple_choice(const MultipleChoiceOptions& options, uint64_t seed);

}  // namespace headlens
