// headlens/tasks: comma-separated files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace headlens {

/// One record, and the line it begins in.
struct CsvRecord {
  std::vector<std::string> fields;
  int64_t line = 0;
};

/// All records of a file as RFC 4180 has them: fields in double quotes may hold commas, newlines
/// and doubled quotes. Blank lines are skipped. TaskError "[task] FILE line N: ..." for a quote
/// that is not closed or is followed by text, and for bytes that are no UTF-8.
std::vector<CsvRecord> read_csv(const std::filesystem::path& file);

}  // namespace headlens
