// headlens/analysis: what a result says of the model it is about.
#pragma once

#include "headlens/analysis/types.h"
#include "headlens/model/language_model.h"

namespace headlens {

/// Kinds and heads of its layers and its size; the name is the caller's.
ModelSummary model_summary(const LanguageModel& model);

}  // namespace headlens
