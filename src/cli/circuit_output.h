// headlens/cli: what `circuit` found, as JSON and as text.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"
#include "headlens/analysis/circuit_search.h"
#include "headlens/analysis/path_patching.h"
#include "headlens/analysis/self_repair.h"

namespace headlens::cli {

/// [layer, head], or [layer, first, last] for a group of channels, of each.
Json heads_json(const std::vector<HeadId>& heads);

Json minimal_json(const CircuitResult& result);
Json pairs_json(const PathPatching& result);
Json repair_json(const std::vector<SelfRepair>& repairs);

std::string minimal_text(const CircuitResult& result);
std::string pairs_text(const PathPatching& result);
std::string repair_text(const std::vector<SelfRepair>& repairs);

}  // namespace headlens::cli
