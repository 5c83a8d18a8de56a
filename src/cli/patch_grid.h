// headlens/cli: the cells of a patched site as a table of places by positions.
#pragma once

#include <string>
#include <vector>

#include "headlens/analysis/patching.h"

namespace headlens::cli {

/// A layer's mixer, MLP or residual; of a site with heads, the one whose patch changes most.
struct PatchGridRow {
  std::string name;
  std::vector<const PatchCell*> cells;  // [column]
};
struct PatchGrid {
  std::vector<std::string> columns;  // the groups of positions
  std::vector<PatchGridRow> rows;
};

/// A row for each place and, with `all_heads`, each head. Points into `found`.
PatchGrid patch_grid(const Patching& found, bool all_heads = false);

}  // namespace headlens::cli
