// headlens/analysis: which example a row of a batch belongs to, and where its prompt ends.
#pragma once

#include <ATen/core/Tensor.h>

#include "headlens/core/dtype.h"
#include "headlens/model/objective.h"

namespace headlens {

/// [row] int64: index into batch.examples. Rows of an example follow its first one.
Tensor example_of_rows(const ObjectiveBatch& batch);
/// [row] int64: the last prompt token q.
Tensor query_of_rows(const Objective& objective, const ObjectiveBatch& batch);
/// bool [row, pos]: positions in any of the prompt's segments.
Tensor segments_of_rows(const Objective& objective, const ObjectiveBatch& batch);

}  // namespace headlens
