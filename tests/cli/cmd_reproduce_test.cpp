// headlens/tests: `reproduce`: verdicts follow from the figures that stand beside them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::model_with_words;
using testing::read_file;
using testing::TempDir;
using testing::word_task;

Called reproduce(std::vector<std::string> more) {
  more.insert(more.begin(), {"reproduce", "--device", "cpu", "--quiet", "--json"});
  return headlens(more);
}

// The bundled hybrid: what is hidden from the last row costs more in its attention layer.
TEST(ReproduceCommand, ComparesAttentionWithStateSpaceLayers) {
  const Called called =
      reproduce({"C5", "--models", "zoo:hybrid", "--retrieval", "mcq:options=4,n=64"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json study = called.json();
  EXPECT_EQ(study["schema"], "headlens.study/1");
  ASSERT_EQ(study["claims"].size(), 1u);
  const Json outcome = study["claims"][0]["outcomes"][0];
  EXPECT_EQ(outcome["model"], "zoo:hybrid");
  EXPECT_EQ(outcome["verdict"], "holds");
  const Json& figures = outcome["figures"];
  ASSERT_EQ(figures.size(), 6u);
  EXPECT_EQ(figures[0]["paper"], "0.643");
  EXPECT_LT(figures[1]["value"], figures[2]["value"]);  // accuracies left
  EXPECT_NEAR(figures[3]["value"].get<double>(),
              figures[2]["value"].get<double>() - figures[1]["value"].get<double>(), 1e-12);
  EXPECT_GT(figures[3]["ci"][0], 0);
  const auto value = [&](size_t i) { return figures[i]["value"].get<double>(); };
  const double attention = value(0) - value(1), ssm = value(0) - value(2);
  EXPECT_EQ(figures[4]["what"], "attention's share of both drops, accuracy");
  EXPECT_NEAR(value(4), attention / (attention + ssm), 1e-12);
  EXPECT_GT(figures[5]["ci"][0], 0.5);
}

// A bundled state-space model, each claim on few examples: rules worked out again from the figures.
TEST(ReproduceCommand, VerdictsFollowTheirRules) {
  const Called called = reproduce({"C1", "C2", "C7", "--models", "zoo:mamba2", "--retrieval",
                                   "mcq:options=4,n=64", "--knowledge", "world-facts:n=64",
                                   "--dictionaries", "kv:pairs={},n=32", "--pairs", "4,8"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json study = called.json();
  const auto outcome = [&](size_t claim) { return study["claims"][claim]["outcomes"][0]; };
  const auto verdict = [](bool holds) { return holds ? "holds" : "does not hold here"; };
  const Json c1 = outcome(0)["figures"];
  bool alone = false;
  for (size_t i = 1; i < c1.size(); i += 2) {
    alone = alone || (c1[i]["ci"][1] <= 0.25 + 0.1 && c1[i + 1]["ci"][1] <= 0.05);
  }
  EXPECT_EQ(outcome(0)["verdict"], verdict(alone));
  EXPECT_EQ(outcome(1)["verdict"], "does not hold here");
  EXPECT_EQ(outcome(1)["why"], "all 4 layers are needed");
  EXPECT_LT(outcome(1)["figures"][3]["value"],  // one layer fewer is more than 0.05 worse
            outcome(1)["figures"][4]["value"].get<double>() - 0.05);
  EXPECT_EQ(outcome(2)["figures"].size(), 4u);
}

TEST(ReproduceCommand, WritesOnePageWithTheFiguresOfItsJson) {
  const TempDir dir;
  const std::string task = "jsonl:" + word_task(dir, 12).string();
  const std::string out = (dir.path() / "study").string();
  const Called called =
      reproduce({"C1", "C2", "C6", "--models", model_with_words(dir, "llama").string(),
                 "--retrieval", task, "--knowledge", task, "--out", out});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json study = Json::parse(read_file(out + "/study.json"));
  EXPECT_EQ(study, called.json());
  EXPECT_EQ(study["claims"][2]["outcomes"][0]["verdict"], "not run");
  const std::string page = read_file(out + "/study.html");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("src="), std::string::npos);
  for (const Json& claim : study["claims"]) {
    for (const Json& figure : claim["outcomes"][0]["figures"]) {
      const double value = figure["value"];
      EXPECT_NE(page.find(fmt::format("<td class=\"number\">{:.3f} (", value)), std::string::npos);
    }
  }
}

TEST(ReproduceCommand, RefusesInOneLine) {
  const auto line = [](std::vector<std::string> words) {
    const Called called = reproduce(std::move(words));
    EXPECT_EQ(called.status, 2);
    return called.err;
  };
  EXPECT_EQ(
      line({}),
      "headlens: error: [reproduce] claims, expected --all or some of C1, C2, C3, C4, C5, C6, "
      "C7, got none\n");
  EXPECT_EQ(line({"C8"}),
            "headlens: error: [reproduce] claim, expected one of C1, C2, C3, C4, C5, C6, C7, got "
            "C8\n");
  EXPECT_EQ(line({"C7", "--dictionaries", "kv:pairs=8"}),
            "headlens: error: [reproduce] --dictionaries, expected {} where the number of pairs "
            "goes, got kv:pairs=8\n");
}

}  // namespace
}  // namespace headlens
