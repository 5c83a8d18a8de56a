// headlens/report: documents, shared by the JSON files and the pages.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/types.h"

namespace headlens {

nlohmann::ordered_json scores_document(const FindResult& result, const TaskInfo& task,
                                       const Manifest& manifest);

/// Parts that documents share. `how`: what a manifest says of the job besides, before its options.
nlohmann::ordered_json model_document(const ModelSummary& model);
nlohmann::ordered_json task_document(const TaskInfo& task);
nlohmann::ordered_json manifest_document(const Manifest& manifest,
                                         const nlohmann::ordered_json& how);
/// The number itself. Error naming `what` for NaN and infinity: JSON has neither, and null would
/// read as "not computed".
double finite_number(double value, const std::string& what);

/// UTF-8 whatever the strings hold: bytes that are not (half a character in a token) become U+FFFD.
/// `indent` -1: all on one line.
std::string json_text(const nlohmann::ordered_json& document, int indent);

/// A page with this document where its data belongs, as JSON that may stand in a script element.
std::string page_with(std::string_view page, const nlohmann::ordered_json& data);

}  // namespace headlens
