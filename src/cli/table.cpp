// headlens/cli: aligned tables for a terminal.
#include "cli/table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace headlens::cli {
namespace {

std::string aligned(const Cell& cell, int64_t width, bool left) {
  const auto missing = static_cast<size_t>(width - display_width(cell.text));
  const std::string blanks(missing, ' '), text = painted(cell.ink, cell.text);
  return left ? text + blanks : blanks + text;
}

std::string line(const std::vector<Cell>& cells, const std::vector<int64_t>& widths,
                 const std::vector<bool>& left) {
  size_t used = cells.size();
  while (used > 0 && cells[used - 1].text.empty()) --used;
  std::string text;
  for (size_t c = 0; c < used; ++c) {
    const bool last = c + 1 == used;
    text += "  " +
            aligned(cells[c], last && left[c] ? display_width(cells[c].text) : widths[c], left[c]);
  }
  return text + "\n";
}

}  // namespace

Table::Table(std::vector<std::string> names) : names_(std::move(names)) {
  for (std::string& name : names_) {
    left_.push_back(name.starts_with('<'));
    if (left_.back()) name.erase(0, 1);
  }
}

void Table::add(std::vector<Cell> cells) {
  cells.resize(names_.size(), Cell(""));
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<int64_t> widths;
  std::vector<Cell> header;
  for (const std::string& name : names_) {
    widths.push_back(display_width(name));
    header.emplace_back(name, Ink::Faint);
  }
  for (const std::vector<Cell>& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c) {
      widths[c] = std::max(widths[c], display_width(row[c].text));
    }
  }
  const bool named = std::any_of(names_.begin(), names_.end(),
                                 [](const std::string& name) { return !name.empty(); });
  std::string text = named ? line(header, widths, left_) : "";
  for (const std::vector<Cell>& row : rows_) text += line(row, widths, left_);
  return text;
}

std::string interval_text(const Estimate& estimate) {
  return fmt::format("[{:.3f}, {:.3f}]", estimate.low, estimate.high);
}

std::string bar(double share, int64_t width) {
  if (!screen().unicode || ::isatty(STDOUT_FILENO) != 1) return {};
  constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const double columns = std::clamp(share, 0.0, 1.0) * static_cast<double>(width);
  const auto eighths = std::llround(columns * 8);
  std::string text;
  for (int64_t i = 0; i < eighths / 8; ++i) text += "█";
  return text + kEighths[eighths % 8];
}

}  // namespace headlens::cli
