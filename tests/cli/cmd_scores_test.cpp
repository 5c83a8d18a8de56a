// headlens/tests: `scores` on models of words and on the bundled Transformer.
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
