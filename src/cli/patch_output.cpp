// headlens/cli: what `patch` found, as JSON, CSV and text.
#include "cli/patch_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cli/heads.h"
#include "cli/patch_grid.h"
#include "cli/table.h"

namespace headlens::cli {
namespace {

void put(Json& json, const std::string& name, const Estimate& e) {
  json[name] = e.value;
  json[name + "_ci"] = {e.low, e.high};
}

Json run_json(const RunFigures& run) {
  Json json;
  put(json, "accuracy", run.accuracy);
  put(json, "logprob", run.logprob);
  put(json, "difference", run.difference);
  return json;
}

Json place_json(const PatchCell& cell) {
  Json json = {{"layer", cell.layer}, {"part", cell.part}};
  if (cell.head) json["head"] = cell.head->first;
  if (cell.part == "mamba1" && cell.head) json["channels"] = {cell.head->first, cell.head->last};
  return json;
}

Json cell_json(const PatchCell& cell, const Patching& found) {
  Json json = place_json(cell);
  json["positions"] = found.positions[cell.positions];
  json.update(run_json(cell.patched));
  put(json, "accuracy_change", cell.accuracy_change);
  put(json, "logprob_change", cell.logprob_change);
  put(json, "difference_change", cell.difference_change);
  if (cell.recovered) put(json, "recovered", *cell.recovered);
  if (cell.estimated) put(json, "estimated_change", *cell.estimated);
  return json;
}

Json error_json(const Patching& found) {
  const AttributionError& error = *found.error;
  Json json = {{"cells", found.cells.size()},
               {"mean_absolute_error", error.mean_absolute},
               {"mean_absolute_change", error.mean_exact}};
  if (error.rank_correlation) json["rank_correlation"] = *error.rank_correlation;
  json["worst"] = Json::array();
  for (const size_t index : error.worst) {
    const PatchCell& cell = found.cells[index];
    Json one = place_json(cell);
    one["positions"] = found.positions[cell.positions];
    one["difference_change"] = cell.difference_change.value;
    one["estimated_change"] = cell.estimated->value;
    json["worst"].push_back(std::move(one));
  }
  return json;
}

std::string cell_name(const PatchCell& cell) {
  if (cell.head) return fmt::format("{} {}", cell.part, head_text(*cell.head));
  return fmt::format("{} {}", cell.part, cell.layer);
}

std::string share(const std::optional<Estimate>& e) {
  return e ? fmt::format("{:.3f} {}", e->value, interval_text(*e)) : "-";
}

void add_run(Table& table, const char* name, const RunFigures& run) {
  table.add(
      {name, share(run.accuracy), fmt::format("{:.3f}", run.logprob.value), share(run.difference)});
}

/// Blue for what the patch gives back, red for the other way, as on the page.
Cell recovered_cell(const PatchCell& cell) {
  if (!cell.recovered) return "-";
  constexpr double kMuch = 0.25;
  const double share = cell.recovered->value;
  return {fmt::format("{:.3f}", share), share > kMuch    ? Ink::Gather
                                        : share < -kMuch ? Ink::Bad
                                                         : Ink::None};
}

std::string grid_text(const PatchGrid& grid) {
  std::vector<std::string> names = {"<recovered"};
  names.insert(names.end(), grid.columns.begin(), grid.columns.end());
  Table table(std::move(names));
  for (const PatchGridRow& row : grid.rows) {
    std::vector<Cell> cells = {row.name};
    for (const PatchCell* cell : row.cells) cells.push_back(recovered_cell(*cell));
    table.add(std::move(cells));
  }
  return table.text();
}

std::string top_text(const Patching& found, size_t top) {
  std::vector<const PatchCell*> cells;
  for (const PatchCell& cell : found.cells) cells.push_back(&cell);
  std::stable_sort(cells.begin(), cells.end(), [](const PatchCell* a, const PatchCell* b) {
    return std::abs(a->difference_change.value) > std::abs(b->difference_change.value);
  });
  cells.resize(std::min(cells.size(), top));
  if (cells.empty()) return {};
  Table table({"<largest changes", "positions", "recovered [95 %]", "differ.", "log-prob.",
               found.error ? "estimate" : "accuracy"});
  for (const PatchCell* cell : cells) {
    const double last = found.error ? cell->estimated->value : cell->patched.accuracy.value;
    table.add({cell_name(*cell), found.positions[cell->positions], share(cell->recovered),
               fmt::format("{:+.3f}", cell->difference_change.value),
               fmt::format("{:+.3f}", cell->logprob_change.value), fmt::format("{:.3f}", last)});
  }
  return table.text();
}

std::string errors_text(const std::vector<PatchedSite>& sites) {
  Table table(
      {"<site", "cells", "rank corr.", "mean error", "mean change", "<worst: exact, estimate"});
  for (const auto& [site, found] : sites) {
    if (!found.error) return {};
    const AttributionError& error = *found.error;
    std::string worst;
    for (size_t i = 0; i < std::min<size_t>(2, error.worst.size()); ++i) {
      const PatchCell& cell = found.cells[error.worst[i]];
      worst += fmt::format("{}{} at {}: {:.3f}, {:.3f}", i == 0 ? "" : "; ", cell_name(cell),
                           found.positions[cell.positions], cell.difference_change.value,
                           cell.estimated->value);
    }
    table.add({patch_site_name(site), fmt::format("{}", found.cells.size()),
               error.rank_correlation ? fmt::format("{:.3f}", *error.rank_correlation) : "-",
               fmt::format("{:.3f}", error.mean_absolute), fmt::format("{:.3f}", error.mean_exact),
               worst});
  }
  return "attribution patching against the exact change of the difference\n" + table.text();
}

}  // namespace

Json patching_json(Json head, const std::vector<PatchedSite>& sites) {
  head["clean"] = run_json(sites.front().found.clean);
  head["corrupted"] = run_json(sites.front().found.corrupted);
  head["sites"] = Json::array();
  for (const auto& [site, found] : sites) {
    Json one = {{"site", patch_site_name(site)}, {"positions", found.positions}};
    if (found.error) one["attribution"] = error_json(found);
    one["cells"] = Json::array();
    for (const PatchCell& cell : found.cells) one["cells"].push_back(cell_json(cell, found));
    head["sites"].push_back(std::move(one));
  }
  return head;
}

std::string patching_csv(const std::vector<PatchedSite>& sites) {
  std::string text =
      "site,layer,part,head_first,head_last,positions,accuracy,accuracy_change,logprob,"
      "logprob_change,difference,difference_change,difference_change_low,difference_change_high,"
      "recovered,recovered_low,recovered_high,estimated_change\n";
  for (const auto& [site, found] : sites) {
    for (const PatchCell& c : found.cells) {
      text += fmt::format("{},{},{},", patch_site_name(site), c.layer, c.part);
      text += c.head ? fmt::format("{},{},", c.head->first, c.head->last) : ",,";
      text +=
          fmt::format("{},{},{},{},{},{},{},{},{},", found.positions[c.positions],
                      c.patched.accuracy.value, c.accuracy_change.value, c.patched.logprob.value,
                      c.logprob_change.value, c.patched.difference.value, c.difference_change.value,
                      c.difference_change.low, c.difference_change.high);
      text += c.recovered ? fmt::format("{},{},{},", c.recovered->value, c.recovered->low,
                                        c.recovered->high)
                          : ",,,";
      text += (c.estimated ? fmt::format("{}", c.estimated->value) : "") + "\n";
    }
  }
  return text;
}

std::string patching_text(const std::vector<PatchedSite>& sites, size_t top) {
  Table runs({"<run", "accuracy [95 %]", "log-prob.", "difference [95 %]"});
  add_run(runs, "clean", sites.front().found.clean);
  add_run(runs, "corrupted", sites.front().found.corrupted);
  std::string text = runs.text();
  for (const auto& [site, found] : sites) {
    text += fmt::format("site {}\n", patch_site_name(site)) + grid_text(patch_grid(found)) +
            top_text(found, top);
  }
  return text + errors_text(sites);
}

}  // namespace headlens::cli
