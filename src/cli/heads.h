// headlens/cli: heads as they are named on the command line.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "headlens/analysis/types.h"
#include "headlens/model/config.h"

namespace headlens::cli {

/// From so many heads, or groups of channels, on a search screens by itself.
inline constexpr int64_t kManyHeads = 2048;

/// --heads; the caller says whether it is required.
CLI::Option* add_heads_flag(CLI::App& command, std::vector<std::string>& heads);

/// "3.7" or "3.10-20" (channels), comma-separated. UsageError naming the piece that is not of that
/// form.
std::vector<HeadId> parse_heads(const std::vector<std::string>& words);
/// UsageError naming the first head that the model does not have, or that is named twice.
void check_heads_exist(const ModelConfig& config, const std::vector<HeadId>& heads);
/// Every head of a range alone, but for Mamba-1, whose channels are scored as the groups named.
std::vector<HeadId> single_heads(const ModelConfig& config, const std::vector<HeadId>& heads);
/// "3.7", "3.10-20".
std::string head_text(const HeadId& head);

}  // namespace headlens::cli
