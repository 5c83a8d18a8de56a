// headlens/tasks: GSM8K from local files.
#pragma once

#include "headlens/tasks/generative.h"
#include "tasks/data_spec.h"

namespace headlens {

/// "Question: ...\nAnswer:", the solution as it is in the file.
GenerativeTask load_gsm8k(const DataSpec& spec);
/// "Q: ...\nA:", examples with solutions in words.
GenerativeTask load_gsm8k_cot(const DataSpec& spec);

}  // namespace headlens
