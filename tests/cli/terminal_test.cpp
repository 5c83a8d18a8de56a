// headlens/tests: tables, colours and progress lines.
#include "cli/terminal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "cli/progress.h"
#include "cli/table.h"

namespace headlens::cli {
namespace {

using Wanted = std::map<std::string, const char*>;

/// Environment variables as given, and as they were afterwards.
class Variables {
 public:
  explicit Variables(const std::map<std::string, const char*>& values) {
    for (const auto& [name, value] : values) {
      const char* before = std::getenv(name.c_str());
      kept_.emplace_back(name,
                         before == nullptr ? std::nullopt : std::optional<std::string>(before));
      value == nullptr ? unsetenv(name.c_str()) : setenv(name.c_str(), value, 1);
    }
  }
  ~Variables() {
    for (const auto& [name, value] : kept_) {
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    }
    choose_color("auto");
  }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> kept_;
};

TEST(Table, ColumnsAreAlignedByWhatIsSeen) {
  const Variables plain(Wanted{{"NO_COLOR", "1"}});
  Table table({"<name", "value", "<what"});
  table.add({"é", "1.5", "x"});  // two bytes, one column
  table.add({"long name", "-10.25", "y"});
  table.add({"z", "3"});  // no last cell: no blanks at the end of the line
  EXPECT_EQ(table.text(),
            "  name        value  what\n"
            "  é             1.5  x\n"
            "  long name  -10.25  y\n"
            "  z               3\n");
}

TEST(Table, NamelessColumnsHaveNoHeader) {
  Table table({"<", ""});
  table.add({"a", "1"});
  EXPECT_EQ(table.text(), "  a  1\n");
}

TEST(Table, ColourDoesNotMoveColumns) {
  choose_color("always");
  Table table({"<", ""});
  table.add({{"gather", Ink::Gather}, "1"});
  table.add({"none", "22"});
  const std::string text = table.text();
  choose_color("auto");
  EXPECT_EQ(text, "  \x1b[34mgather\x1b[0m   1\n  none    22\n");
}

TEST(Screen, ColourOnlyWhereItIsWanted) {
  const Variables no(Wanted{{"NO_COLOR", "1"}, {"LC_ALL", "C.UTF-8"}, {"COLUMNS", "123"}});
  EXPECT_FALSE(screen().color);
  EXPECT_TRUE(screen().unicode);
  choose_color("always");  // the flag counts for more than the variable
  EXPECT_TRUE(screen().color);
  EXPECT_EQ(painted(Ink::Bad, "x"), "\x1b[31mx\x1b[0m");
  choose_color("never");
  EXPECT_EQ(painted(Ink::Bad, "x"), "x");
  const Variables ascii(Wanted{{"LC_ALL", "C"}});
  EXPECT_FALSE(screen().unicode);
}

TEST(Screen, WidthOfLetters) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("日本"), 4);
  EXPECT_EQ(display_width("e\u0301"), 1);  // an accent on the letter before it
  EXPECT_EQ(fitted("日本", 3), "日 ");
  EXPECT_EQ(fitted("ab", 4), "ab  ");
}

TEST(Progress, SaysRateAndTimeLeft) {
  EXPECT_EQ(progress_text("find", 1, 1, 100, 0.5), "find: 1 %");  // too early to tell
  EXPECT_EQ(progress_text("find", 40, 40, 100, 20), "find: 40 %, 2.0 items/s, 30 s left");
  // A resumed run did 10 of the 60 in these 20 seconds: 40 more take 80.
  EXPECT_EQ(progress_text("find", 60, 10, 100, 20), "find: 60 %, 30.0 items/min, 1 min 20 s left");
  EXPECT_EQ(progress_text("eval", 512, 512, 512, 4), "eval: 100 %, 128 examples/s, 4 s");
  EXPECT_EQ(progress_text("loading", 3'000'000'000, 3'000'000'000, 6'000'000'000, 2),
            "loading: 50 %, 1.50 GB/s, 2 s left");
  EXPECT_EQ(duration_text(7500), "2 h 05 min");
}

TEST(Progress, IsSilentWhereNobodyWatches) {
  ::testing::internal::CaptureStderr();  // a file
  {
    Progress progress(/*quiet=*/false);
    progress.update("find", 0, 2);
    progress.update("find", 2, 2);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace headlens::cli
