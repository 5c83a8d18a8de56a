// headlens/cli: the cells of a patched site as a table of places by positions, and as a page.
#include "cli/patch_grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "cli/heads.h"
#include "cli/patch_output.h"

namespace headlens::cli {
namespace {

using RowKey = std::tuple<int64_t, std::string, int64_t>;

double size_of(const PatchGridRow& row) {
  double size = 0;
  for (const PatchCell* cell : row.cells) {
    size = std::max(size, std::abs(cell->difference_change.value));
  }
  return size;
}

/// Blue for what the corrupted run has lost and the patch gives back, red for the other way.
std::string colour(const Estimate& share) {
  const double strength = std::min(1.0, std::abs(share.value));
  return fmt::format("rgba({},{:.2f})", share.value >= 0 ? "37,99,235" : "220,38,38",
                     0.85 * strength);
}

std::string text_of(const Json& value) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  std::string out;
  for (const char c : text) {
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  }
  return out;
}

constexpr const char* kStyle = R"(:root { color-scheme: light dark; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th { font-weight: 500; text-align: left; padding: 0.1rem 0.6rem; }
td { min-width: 4.5rem; text-align: right; padding: 0.1rem 0.6rem; font-variant-numeric: tabular-nums; }
.small { color: GrayText; }
)";

std::string grid_html(const PatchGrid& grid) {
  std::string html = "<table><tr><th></th>";
  for (const std::string& column : grid.columns) html += "<th>" + text_of(column) + "</th>";
  html += "</tr>\n";
  for (const PatchGridRow& row : grid.rows) {
    html += "<tr><th>" + text_of(row.name) + "</th>";
    for (const PatchCell* cell : row.cells) {
      if (!cell->recovered) {
        html += "<td>-</td>";
        continue;
      }
      const Estimate& share = *cell->recovered;
      html += fmt::format(
          "<td style=\"background:{}\" title=\"{:.3f} to {:.3f}; difference {:+.3f}\">{:.2f}</td>",
          colour(share), share.low, share.high, cell->difference_change.value, share.value);
    }
    html += "</tr>\n";
  }
  return html + "</table>\n";
}

}  // namespace

PatchGrid patch_grid(const Patching& found, bool all_heads) {
  std::map<RowKey, PatchGridRow> rows;
  for (const PatchCell& cell : found.cells) {
    PatchGridRow& row = rows[{cell.layer, cell.part, cell.head ? cell.head->first : -1}];
    row.name = cell.head ? fmt::format("{} {}", cell.part, head_text(*cell.head))
                         : fmt::format("{} {}", cell.part, cell.layer);
    row.cells.push_back(&cell);
  }
  PatchGrid grid{found.positions, {}};
  const std::pair<int64_t, std::string> none{-1, ""};
  auto last = none;
  for (auto& [key, row] : rows) {
    const std::pair place{std::get<0>(key), std::get<1>(key)};
    if (all_heads || place != last) {
      grid.rows.push_back(std::move(row));
    } else if (size_of(row) > size_of(grid.rows.back())) {
      grid.rows.back() = std::move(row);
    }
    last = place;
  }
  return grid;
}

std::string patching_page(const Json& json, const std::vector<PatchedSite>& sites) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>HeadLens: patching "
      "of {0}</title>\n<style>{1}</style></head>\n<body>\n<h1>{0} on {2}</h1>\n<p>Direction: {3}. "
      "Recovered share of the difference between the corrupted run (0) and the clean one (1), by "
      "place and positions.</p>\n",
      text_of(json["model"]), kStyle, text_of(json["task"]), text_of(json["direction"]));
  for (const auto& [site, found] : sites) {
    html += fmt::format("<h2>{}</h2>\n", patch_site_name(site)) +
            grid_html(patch_grid(found, /*all_heads=*/true));
  }
  return html + fmt::format(
                    "<p class=\"small\">{}<br>HeadLens {}, {} {}, {} examples, seed {}</p>\n"
                    "</body></html>\n",
                    text_of(json["manifest"]["command"]), text_of(json["manifest"]["headlens"]),
                    text_of(json["manifest"]["device"]), text_of(json["manifest"]["dtype"]),
                    text_of(json["examples"]), text_of(json["seed"]));
}

}  // namespace headlens::cli
