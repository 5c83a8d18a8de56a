// headlens/tests: `scores` on models of words and on the bundled Transformer.
#include <gtest/gtest.h>

#include <regex>

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

TEST(ScoresCommand, ScoresEveryHeadOfEveryKind) {
  const TempDir dir;
  const std::string task = "jsonl:" + word_task(dir, 6).string();
  const std::string out = (dir.path() / "scores.json").string();
  for (const char* family : {"llama", "falcon_mamba", "mamba2", "llamba", "falcon_h1"}) {
    SCOPED_TRACE(family);
    const Called called =
        headlens({"scores", model_with_words(dir, family).string(), "--task", task, "--quiet",
                  "--json", "--groups", "2", "--period", "8", "--prompts", "2", "--out", out});
    ASSERT_EQ(called.status, 0) << called.err;
    const Json found = called.json();
    EXPECT_EQ(found, Json::parse(read_file(out)));
    EXPECT_EQ(found["schema"], "headlens.head_scores/1");
    EXPECT_EQ(found["retrieval"]["trials"], 6);
    const bool kept = found["retrieval"]["kept"] > 0;
    for (const Json& head : found["heads"]) {
      for (const char* name : {"previous_token", "duplicate_token", "induction"}) {
        EXPECT_GE(head[name], 0.0);
        EXPECT_LE(head[name], 1.0);
      }
      EXPECT_EQ(head.contains("retrieval"), kept);  // not computed is absent, never 0
    }
  }
}

TEST(ScoresCommand, SaysWhatIsWrong) {
  const TempDir dir;
  const std::string model = model_with_words(dir, "llama").string();
  EXPECT_EQ(headlens({"scores", model, "--quiet", "--bos"}).err,
            "headlens: error: [scores] --bos and --tokenizer, expected with --task only, got no "
            "--task\n");
  EXPECT_EQ(headlens({"scores", model, "--quiet", "--heads", "9.0"}).status, 2);
  EXPECT_EQ(headlens({"scores", model, "--quiet", "--period", "0"}).err,
            "headlens: error: [flags] --period, expected 1 to 2147483647, got 0\n");
}

TEST(ScoresCommand, CapsMakeBatchesSmallerAndAreNamedWhereNoTextFits) {
  std::vector<std::string> words = {"scores",   "zoo:hybrid", "--prompts", "6",
                                    "--device", "cpu",        "--task",    "mcq:options=4,n=8",
                                    "--quiet",  "--json"};
  const Called whole = headlens(words);
  ASSERT_EQ(whole.status, 0) << whole.err;
  words.insert(words.end(), {"--max-host-memory", "0.0001"});
  const Called refused = headlens(words);
  EXPECT_EQ(refused.status, 2);
  const std::regex said(
      "expected at least the ([0-9.]+) GiB of the weights and a text of 100 tokens, got 0.0001 "
      "GiB; "
      "raise the cap");
  std::smatch figure;
  ASSERT_TRUE(std::regex_search(refused.err, figure, said)) << refused.err;
  words.back() = std::to_string(1.01 * std::stod(figure[1]));  // a text a forward
  const Called capped = headlens(words);
  ASSERT_EQ(capped.status, 0) << capped.err;
  const Json a = whole.json(), b = capped.json();
  EXPECT_EQ(a["retrieval"], b["retrieval"]);
  for (size_t h = 0; h < a["heads"].size(); ++h) {
    EXPECT_NEAR(a["heads"][h]["induction"], b["heads"][h]["induction"], 1e-5);
  }
}

// The bundled tokenizer has ":17" in a pair and " 17" in an answer as unlike tokens: every answer
// is found, and none is a copy of a token of its pair (docs/attribution.md).
TEST(ScoresCommand, ValuesOfTheZooAreFoundAndNotCopied) {
  const Called called = headlens({"scores", "zoo:transformer", "--task", "kv:pairs=4,n=16",
                                  "--seed", "3", "--quiet", "--json"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = called.json();
  EXPECT_GT(found["retrieval"]["kept"], 12);
  for (const Json& head : found["heads"]) EXPECT_EQ(head["retrieval"], 0.0);
  EXPECT_GT(found["heads"][0]["previous_token"], 0.15);
}

}  // namespace
}  // namespace headlens
