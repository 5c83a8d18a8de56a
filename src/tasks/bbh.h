// headlens/tasks: BIG-Bench Hard from a local directory.
#pragma once

#include "headlens/tasks/generative.h"
#include "tasks/data_spec.h"

namespace headlens {

/// DIR/bbh/TASK.json and DIR/cot-prompts/TASK.txt, as suzgunmirac/BIG-Bench-Hard has them. "Q:
/// ...\nA:" after the task's description, with answers alone as examples.
GenerativeTask load_bbh(const DataSpec& spec);
/// The same with the chains of thought as examples.
GenerativeTask load_bbh_cot(const DataSpec& spec);

}  // namespace headlens
