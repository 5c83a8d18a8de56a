// headlens/tests: scores.csv against scores.json.
#include "headlens/report/csv_report.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "headlens/report/json_report.h"
#include "samples/sample_result.h"

namespace headlens {
namespace {

using nlohmann::json;
using testing::SampleReport;
using Row = std::map<std::string, std::string>;

/// A reader of quoted fields of its own: rows of fields.
std::vector<std::vector<std::string>> fields_of(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, {""});
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inside && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      rows.back().back() += text[++i];
    } else if (c == '"') {
      inside = !inside;
    } else if (!inside && c == ',') {
      rows.back().emplace_back();
    } else if (!inside && c == '\n') {
      rows.push_back({""});
    } else {
      rows.back().back() += c;
    }
  }
  EXPECT_EQ(rows.back(), std::vector<std::string>{""}) << "the last line ends";
  rows.pop_back();
  return rows;
}

std::vector<Row> table_of(const std::string& text) {
  const auto rows = fields_of(text);
  std::vector<Row> table;
  for (size_t r = 1; r < rows.size(); ++r) {
    EXPECT_EQ(rows[r].size(), rows[0].size());
    Row row;
    for (size_t c = 0; c < rows[0].size(); ++c) row[rows[0][c]] = rows[r][c];
    table.push_back(row);
  }
  return table;
}

/// What scores.json says of a column: the figure, or nothing.
std::optional<double> figure(const json& head, const std::string& column) {
  if (column == "head_first") return head.at("head");
  if (column == "head_last") return head.contains("channels") ? head["channels"][1] : head["head"];
  const bool low = column == "accuracy_drop_low", high = column == "accuracy_drop_high";
  if (low || high) {
    if (!head.contains("accuracy_drop_ci")) return {};
    return head["accuracy_drop_ci"][low ? 0 : 1].get<double>();
  }
  return head.contains(column) ? std::optional<double>(head[column].get<double>()) : std::nullopt;
}

TEST(ScoresCsv, SaysWhatScoresJsonSays) {
  SampleReport mamba = testing::sample_mamba1(), llama = testing::sample_transformer(4, 8, 6);
  llama.result.heads[3].accuracy_drop.reset();
  llama.result.heads[4].map = {};
  for (const SampleReport& s : {llama, mamba}) {
    const json heads = json::parse(scores_json(s.result, s.task, s.manifest)).at("heads");
    const std::vector<Row> table = table_of(scores_csv(s.result));
    ASSERT_EQ(table.size(), heads.size());
    for (size_t i = 0; i < table.size(); ++i) {
      for (const auto& [column, text] : table[i]) {
        if (column == "kind" || column == "role") {
          EXPECT_EQ(text, heads[i].at(column));
          continue;
        }
        const std::optional<double> value = figure(heads[i], column);
        ASSERT_EQ(text.empty(), !value) << column << " of entry " << i;
        if (!value) continue;
        EXPECT_EQ(std::stod(text), *value) << column << " of entry " << i;
      }
      for (const auto& [name, value] : heads[i].items()) {
        if (name == "head" || name == "channels" || name == "accuracy_drop_ci") continue;
        EXPECT_TRUE(table[i].contains(name)) << name << " is in scores.json only";
      }
    }
  }
}

TEST(ScoresCsv, QuotesTextThatHoldsItsOwnMarks) {
  SampleReport s = testing::sample_transformer(1, 1, 2);
  s.result.heads[0].kind = "a,\"b\"\nc";
  const std::vector<Row> table = table_of(scores_csv(s.result));
  ASSERT_EQ(table.size(), 1u);
  EXPECT_EQ(table[0].at("kind"), "a,\"b\"\nc");
  EXPECT_EQ(table[0].at("role"), "none");
}

TEST(ScoresCsv, IsAHeaderAloneWithoutHeads) {
  const auto rows = fields_of(scores_csv(FindResult{}));
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].front(), "layer");
}

}  // namespace
}  // namespace headlens
