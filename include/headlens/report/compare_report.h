// headlens/report: compare.json, compare.csv and compare.html.
#pragma once

#include <string>

#include "headlens/analysis/compare_types.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/types.h"

namespace headlens {

/// The text of compare.json, schema headlens.compare/1: both models with the spread of every figure
/// by head and by layer, and the paired differences. A figure that no example has is absent; a
/// number that is not finite is an Error naming it. The comparison comes from compare_models.
std::string compare_json(const Comparison& comparison, const TaskInfo& task,
                         const Manifest& manifest);

/// The text of compare.csv: a header line, then one line per model ("a", "b"), head and example
/// with the five figures; one that the example cannot have is an empty field.
std::string compare_csv(const Comparison& comparison);

/// The page, self-contained: the spreads of both models side by side, and the differences. Values
/// come from the same numbers as compare.json.
std::string compare_html(const Comparison& comparison, const TaskInfo& task,
                         const Manifest& manifest);

}  // namespace headlens
