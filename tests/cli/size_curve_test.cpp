// headlens/tests: the curve of `find --curve` against `eval` and `ablate` at each size.
#include "cli/size_curve.h"

#include <gtest/gtest.h>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::TempDir;

std::vector<std::string> find_words(const TempDir& dir, const std::string& curve,
                                    const std::string& sizes) {
  return {"find",    "zoo:mamba2", "--task",  "kv:pairs=8,n=48",
          "--maps",  "0",          "--curve", curve,
          "--sizes", sizes,        "--out",   (dir.path() / "o").string(),
          "--json",  "--quiet"};
}

std::string name_of(const Json& head) {
  return std::to_string(head[0].get<int64_t>()) + "." + std::to_string(head[1].get<int64_t>());
}

TEST(SizeCurve, EqualsEvalAndAblateOnTheNextSeed) {
  const TempDir dir;
  const Called called = headlens(find_words(dir, "kv:pairs={},n=12", "2,7"));
  ASSERT_EQ(called.status, 0) << called.err;
  const Json scores = called.json(), curve = scores["curve"];
  EXPECT_EQ(curve["task"], "kv:pairs={},n=12");
  EXPECT_EQ(curve["seed"], 1);
  EXPECT_EQ(curve["sizes"], Json({2, 7}));
  EXPECT_EQ(curve["examples"], Json({12, 12}));
  EXPECT_EQ(scores["manifest"]["options"]["curve_sizes"], "2,7");
  ASSERT_EQ(curve["lines"].size(), 3u) << "whole, without Gather, without Aggregate";
  EXPECT_EQ(curve["lines"][0]["without"], Json::array());
  for (const auto& [line, role] : {std::pair(1, "gather"), std::pair(2, "aggregate")}) {
    const Json strongest = scores["circuit"][role][0];
    EXPECT_EQ(curve["lines"][line]["without"],
              Json::array({{strongest[0], strongest[1], strongest[1]}}));
  }
  EXPECT_NE(curve["lines"][0]["accuracy"], curve["lines"][2]["accuracy"])
      << "lines can be told apart";
  for (size_t k = 0; k < 2; ++k) {
    const std::string spec = k == 0 ? "kv:pairs=2,n=12" : "kv:pairs=7,n=12";
    const Json whole =
        headlens({"eval", "zoo:mamba2", "--task", spec, "--seed", "1", "--json"}).json();
    EXPECT_EQ(curve["lines"][0]["accuracy"][k], whole["accuracy"]) << spec;
    for (size_t end = 0; end < 2; ++end) {
      EXPECT_NEAR(curve["lines"][0]["accuracy_ci"][k][end], whole["accuracy_ci"][end], 1e-12);
    }
    for (size_t line = 1; line < 3; ++line) {
      const Json cut = headlens({"ablate", "zoo:mamba2", "--task", spec, "--seed", "1", "--heads",
                                 name_of(curve["lines"][line]["without"][0]), "--json"})
                           .json();
      EXPECT_EQ(curve["lines"][line]["accuracy"][k], cut["ablated"]["accuracy"]) << spec << line;
    }
  }
}

TEST(SizeCurve, IsNotThereUnasked) {
  const TempDir dir;
  const Called called = headlens({"find", "zoo:mamba2", "--task", "mcq:options=4,n=8", "--maps",
                                  "0", "--out", (dir.path() / "o").string(), "--json", "--quiet"});
  EXPECT_FALSE(called.json().contains("curve"));
}

TEST(SizeCurve, SaysWhatIsWrongWithItsFlags) {
  const TempDir dir;
  const Called without = headlens(find_words(dir, "kv:pairs=4,n=12", "2"));
  EXPECT_EQ(without.status, 2);
  EXPECT_NE(without.err.find("[find] --curve, expected a task with {} where its size goes, as "
                             "kv:pairs={},n=128, got kv:pairs=4,n=12"),
            std::string::npos)
      << without.err;
  const Called zero = headlens(find_words(dir, "kv:pairs={},n=12", "2,0"));
  EXPECT_EQ(zero.status, 2);
  EXPECT_NE(zero.err.find("--sizes, expected"), std::string::npos) << zero.err;
}

TEST(SizeCurve, TakesTheLargestDropWhereNoHeadHasARole) {
  FindResult found;
  EXPECT_TRUE(cli::curve_heads(found).empty());
  for (int64_t h = 0; h < 3; ++h) {
    HeadScore score;
    score.head = {1, h, h};
    if (h > 0) score.accuracy_drop = Estimate{h == 1 ? 0.2 : 0.1, 0, 1};
    found.heads.push_back(score);
  }
  EXPECT_EQ(cli::curve_heads(found), std::vector<HeadId>({{1, 1, 1}}));
  found.aggregate = {{2, 0, 0}, {2, 1, 1}};
  EXPECT_EQ(cli::curve_heads(found), std::vector<HeadId>({{2, 0, 0}}));
}

}  // namespace
}  // namespace headlens
