// headlens/tasks: a task as the objective that analysis takes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "headlens/model/objective.h"
#include "headlens/tasks/types.h"

namespace headlens {

/// Choice scoring of `examples` in batches of `max_batch_tokens` row x pos. The target segment is
/// the one with the answer's index, if there is a segment for each choice. Throws TaskError if
/// there is no example.
std::unique_ptr<Objective> make_choice_objective(std::vector<TokenizedExample> examples,
                                                 int64_t max_batch_tokens = 16384);

/// The same in random order, `size` examples a part: what sequential testing draws. The same seed
/// gives the same order. UsageError for a size below 1, TaskError if there is no example.
std::vector<ObjectivePart> make_choice_parts(const std::vector<TokenizedExample>& examples,
                                             int64_t size, uint64_t seed,
                                             int64_t max_batch_tokens = 16384);

}  // namespace headlens
