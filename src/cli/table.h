// headlens/cli: aligned tables for a terminal.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"
#include "headlens/analysis/types.h"

namespace headlens::cli {

/// A text and what it is.
struct Cell {
  Cell(const char* words) : text(words) {}             // NOLINT: cells are written as plain texts
  Cell(std::string words) : text(std::move(words)) {}  // NOLINT
  Cell(std::string words, Ink tone) : text(std::move(words)), ink(tone) {}
  std::string text;
  Ink ink = Ink::None;
};

/// Rows under a header; every column as wide as its widest cell.
class Table {
 public:
  /// One name a column; a name that begins with '<' is put to the left with all below it, others to
  /// the right. All names empty: no header is shown.
  explicit Table(std::vector<std::string> names);
  /// A cell for each column; those left out are empty.
  void add(std::vector<Cell> cells);
  bool empty() const { return rows_.empty(); }
  /// Lines that begin with two blanks; blanks at a line's end are left out.
  std::string text() const;

 private:
  std::vector<std::string> names_;
  std::vector<bool> left_;
  std::vector<std::vector<Cell>> rows_;
};

/// "[-0.012, 0.345]".
std::string interval_text(const Estimate& estimate);

/// A share of 0 to 1 as a bar of at most `width` columns; nothing where only ASCII is shown, or
/// where stdout is no terminal.
std::string bar(double share, int64_t width);

}  // namespace headlens::cli
