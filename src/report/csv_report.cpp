// headlens/report: scores.csv, one line a head.
#include "headlens/report/csv_report.h"

#include <optional>

#include "core/check.h"

namespace headlens {
namespace {

using Field = std::optional<double>;

struct Column {
  const char* name;
  std::string (*text)(const HeadScore&);
};

std::string number(const Field& value) {
  return value ? fmt::format("{}", *value) : std::string();
}

/// Quoted where a comma, a quote or a line end would be read as the table's own (RFC 4180).
std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

std::string drop(const HeadScore& s, double Estimate::*part) {
  return s.accuracy_drop ? number(*s.accuracy_drop.*part) : std::string();
}

using Score = const HeadScore&;

constexpr Column kColumns[] = {
    {"layer", [](Score s) { return fmt::format("{}", s.head.layer); }},
    {"head_first", [](Score s) { return fmt::format("{}", s.head.first); }},
    {"head_last", [](Score s) { return fmt::format("{}", s.head.last); }},
    {"kind", [](Score s) { return quoted(s.kind); }},
    {"role", [](Score s) { return std::string(head_role_name(s.role)); }},
    {"accuracy", [](Score s) { return number(s.accuracy); }},
    {"accuracy_drop", [](Score s) { return drop(s, &Estimate::value); }},
    {"accuracy_drop_low", [](Score s) { return drop(s, &Estimate::low); }},
    {"accuracy_drop_high", [](Score s) { return drop(s, &Estimate::high); }},
    {"logprob_drop", [](Score s) { return number(s.logprob_drop); }},
    {"near_ties", [](Score s) { return s.near_ties ? fmt::format("{}", *s.near_ties) : ""; }},
    {"examples", [](Score s) { return s.examples ? fmt::format("{}", *s.examples) : ""; }},
    {"screen_drop", [](Score s) { return number(s.screen_drop); }},
    {"screen_place",
     [](Score s) { return s.screen_place ? fmt::format("{}", *s.screen_place) : ""; }},
    {"screen_exact_drop",
     [](Score s) { return s.screen_exact ? number(s.screen_exact->logprob_drop) : ""; }},
    {"drop_at_query", [](Score s) { return number(s.drop_at_query); }},
    {"drop_elsewhere", [](Score s) { return number(s.drop_elsewhere); }},
    {"drop_in_segments", [](Score s) { return number(s.drop_in_segments); }},
    {"drop_reading_segments", [](Score s) { return number(s.drop_reading_segments); }},
    {"entropy", [](Score s) { return number(s.map.entropy); }},
    {"entropy_norm", [](Score s) { return number(s.map.entropy_norm); }},
    {"row_mass", [](Score s) { return number(s.map.row_mass); }},
    {"gather", [](Score s) { return number(s.map.gather); }},
    {"gather_uniform", [](Score s) { return number(s.map.gather_uniform); }},
    {"aggregate", [](Score s) { return number(s.map.aggregate); }},
    {"aggregate_uniform", [](Score s) { return number(s.map.aggregate_uniform); }},
    {"target", [](Score s) { return number(s.map.target); }},
    {"target_uniform", [](Score s) { return number(s.map.target_uniform); }},
};

/// One line of the table: `cell` says what stands in a column.
template <typename Cell>
std::string line(Cell cell) {
  std::string text;
  for (const Column& column : kColumns) {
    if (&column != kColumns) text += ',';
    text += cell(column);
  }
  return text + '\n';
}

}  // namespace

std::string scores_csv(const FindResult& result) {
  std::string text = line([](const Column& column) { return column.name; });
  for (const HeadScore& s : result.heads) {
    text += line([&s](const Column& column) { return column.text(s); });
  }
  return text;
}

}  // namespace headlens
