// headlens/report: scores.json as a document, shared by the JSON file and the page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/types.h"

namespace headlens {

nlohmann::ordered_json scores_document(const FindResult& result, const TaskInfo& task,
                                       const Manifest& manifest);

/// UTF-8 whatever the strings hold: bytes that are not (half a character in a token) become U+FFFD.
/// `indent` -1: all on one line.
std::string json_text(const nlohmann::ordered_json& document, int indent);

}  // namespace headlens
