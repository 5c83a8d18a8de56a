// headlens/tests: comma-separated files, and what can be wrong with them.
#include "tasks/csv.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using Fields = std::vector<std::string>;

std::vector<CsvRecord> read(const std::string& text) {
  const testing::TempDir dir;
  return read_csv(dir.write("a.csv", text));
}

std::string error_in(const std::string& text) {
  const testing::TempDir dir;
  const auto file = dir.write("a.csv", text);
  const std::string message = error_message<TaskError>([&] { read_csv(file); });
  return message.substr(message.find("a.csv"));
}

TEST(ReadCsv, TakesQuotedCommasQuotesAndNewlines) {
  const auto records = read("a,\"b, \"\"c\"\"\nd\",e\r\n\n\"\",,x\n");
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].fields, (Fields{"a", "b, \"c\"\nd", "e"}));
  EXPECT_EQ(records[0].line, 1);
  EXPECT_EQ(records[1].fields, (Fields{"", "", "x"}));
  EXPECT_EQ(records[1].line, 4);  // the first record spans two lines, and one is blank
}

TEST(ReadCsv, NeedsNoNewlineAtTheEndAndKeepsInnerSpaces) {
  EXPECT_EQ(read("\xEF\xBB\xBFq , a\"b\",c ")[0].fields, (Fields{"q ", " a\"b\"", "c "}));
  EXPECT_EQ(read("a,\"b\"")[0].fields, (Fields{"a", "b"}));
  EXPECT_EQ(read("a,")[0].fields, (Fields{"a", ""}));
  EXPECT_TRUE(read("").empty());
}

TEST(ReadCsv, NamesTheLineOfAFault) {
  EXPECT_EQ(error_in("a,b\nc,\"d\n\n"), "a.csv line 2: field, expected a closing quote, got none");
  EXPECT_EQ(error_in("a,\"b\nc\"d,e\n"),
            "a.csv line 2: field, expected a comma after its closing quote, got 'd'");
  EXPECT_EQ(error_in("a,b\nc,\xFF\n"), "a.csv line 2: text, expected UTF-8, got other bytes");
}

}  // namespace
}  // namespace headlens
