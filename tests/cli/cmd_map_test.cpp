// headlens/tests: `map` within the memory that it is given.
#include <gtest/gtest.h>

#include <regex>

#include "cli/command_tools.h"
#include "headlens/core/log.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;

using Words = std::vector<std::string>;

Words map_call(const std::string& model) {
  return {"map",     model,     "--text",   "A. Paris B. Rome C. Oslo D. Bern Which is of France?",
          "--heads", "0.0,1.2", "--device", "cpu",
          "--json"};
}

Called with_cap(Words words, const std::string& gib) {
  words.insert(words.end(), {"--quiet", "--max-host-memory", gib});
  return headlens(words);
}

class MapCommandTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Zoo, MapCommandTest, ::testing::Values("zoo:transformer", "zoo:mamba2"));

TEST_P(MapCommandTest, RowsAreMadeInPartsWhereTheCapIsTight) {
  const Words words = map_call(GetParam());
  const Called whole = headlens(words), refused = with_cap(words, "0.0001");
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_EQ(refused.status, 2);
  std::smatch figure;
  ASSERT_TRUE(
      std::regex_search(refused.err, figure,
                        std::regex("^headlens: error: \\[memory\\] --max-host-memory, expected at "
                                   "least the ([0-9.]+) GiB of this call, got 0.0001 GiB; --rows "
                                   "takes some rows, headlens find reduces maps .*\n$")))
      << refused.err;
  // Just that much: a row at a time.
  const Called tight = with_cap(words, std::to_string(1.001 * std::stod(figure[1])));
  ASSERT_EQ(tight.status, 0) << tight.err;
  const Json a = whole.json(), b = tight.json();
  ASSERT_EQ(a["maps"].size(), 2U);
  for (size_t m = 0; m < 2; ++m) {
    const auto &rows = a["maps"][m]["values"], &others = b["maps"][m]["values"];
    ASSERT_EQ(rows.size(), others.size());
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t j = 0; j < rows[r].size(); ++j) EXPECT_NEAR(rows[r][j], others[r][j], 1e-5);
    }
  }
}

TEST(MapCommand, SaysFirstWhatItWillWantAndTakesLessForSomeRows) {
  const auto predicted = [](const Words& more) {
    Words words = map_call("zoo:transformer");
    words.insert(words.end(), more.begin(), more.end());
    std::smatch said;
    const std::string err = headlens(words).err;
    const bool found = std::regex_search(
        err, said,
        std::regex(
            "\\[memory\\] predicted: weights [0-9.]+ GiB, at most [0-9.e-]+ GiB for [0-9]+ "
            "tokens and ([0-9]+) rows at once, ([0-9.e-]+) GiB for 2 maps; [0-9.]+ GiB free"));
    EXPECT_TRUE(found) << err;
    return found ? std::pair(std::stod(said[2]), std::stoi(said[1])) : std::pair(0.0, 0);
  };
  set_log_level(LogLevel::Info);  // other calls in this process were told to be quiet
  const auto [all, rows] = predicted({});
  const auto [few, three] = predicted({"--rows", "0,3,-1"});
  set_log_level(LogLevel::Warn);
  EXPECT_EQ(three, 3);
  EXPECT_NEAR(few / all, 3.0 / rows, 1e-3);
}

TEST(MapCommand, CapsAreNumbersFromZero) {
  EXPECT_EQ(with_cap(map_call("zoo:transformer"), "-1").err,
            "headlens: error: [flags] --max-host-memory, expected at least 0 GiB, got -1\n");
}

}  // namespace
}  // namespace headlens
