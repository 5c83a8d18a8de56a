// headlens/report: scores.json, schema headlens.scores/1.
#pragma once

#include <filesystem>
#include <string>

#include "headlens/analysis/types.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/types.h"

namespace headlens {

/// The text of scores.json. A figure that was not computed is absent; a number that is not finite
/// is an Error naming it. Bytes that are not UTF-8 become U+FFFD.
std::string scores_json(const FindResult& result, const TaskInfo& task, const Manifest& manifest);

/// Writes `text` to `path` whole or not at all: under a temporary name first, synced, renamed.
/// Error naming the path and the system's reason.
void write_report_file(const std::filesystem::path& path, const std::string& text);

}  // namespace headlens
