// headlens/analysis: the rows of a batch: their examples, where their prompts end, copies of them.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/model/objective.h"
#include "headlens/model/prompt.h"

namespace headlens {

/// [row] int64: index into batch.examples. Rows of an example follow its first one.
Tensor example_of_rows(const ObjectiveBatch& batch);
/// [row] int64: the last prompt token q.
Tensor query_of_rows(const Objective& objective, const ObjectiveBatch& batch);
/// bool [row, pos]: positions in any of the prompt's segments.
Tensor segments_of_rows(const Objective& objective, const ObjectiveBatch& batch);

/// [row, ..] -> [copy * row, ..]: all rows, then all of them again.
Tensor repeated_rows(const Tensor& values, int64_t copies);
/// The prompt of that many copies of a batch without padding.
Prompt repeated_rows(const Prompt& prompt, int64_t copies);

}  // namespace headlens
