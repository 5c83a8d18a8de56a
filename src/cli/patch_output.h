// headlens/cli: what `patch` found, as JSON, CSV, text and a page of heat maps.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"
#include "headlens/analysis/patching.h"

namespace headlens::cli {

/// One site's cells.
struct PatchedSite {
  PatchSite site = PatchSite::Resid;
  Patching found = {};
};

/// What the run was told, as the JSON's first keys.
Json patching_json(Json head, const std::vector<PatchedSite>& sites);
std::string patching_csv(const std::vector<PatchedSite>& sites);
/// Grids of recovered shares, the `top` cells of largest change, and the table of estimates.
std::string patching_text(const std::vector<PatchedSite>& sites, size_t top);
/// The grids as one self-contained page.
std::string patching_page(const Json& json, const std::vector<PatchedSite>& sites);

}  // namespace headlens::cli
