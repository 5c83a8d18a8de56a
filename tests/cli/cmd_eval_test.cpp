// headlens/tests: `eval` of tasks whose answers are written.
#include <gtest/gtest.h>

#include "cli/command_tools.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::model_with_words;
using testing::TempDir;
using testing::word_task;

class WrittenAnswersTest : public ::testing::Test {
 protected:
  /// Two questions of one BBH task, asked without examples.
  void write_task(const Json& first_target) {
    const Json task = {{"canary", "c"},
                       {"examples",
                        {{{"input", "w11 w7"}, {"target", first_target}},
                         {{"input", "w3 w42"}, {"target", "w1 w2 w3 w4 w5"}}}}};
    dir_.write("d/bbh/words.json", task.dump());
    dir_.write("d/cot-prompts/words.txt",
               "canary\n-----\nw5 w6.\n\nQ: w1\nA: Let's think step by step.\nSo w2.\n");
  }
  Called eval(std::vector<std::string> more) const {
    std::vector<std::string> words = {
        "eval",   model_with_words(dir_, "llama").string(), "--dtype", "float64", "--quiet",
        "--task", "bbh:" + (dir_.path() / "d").string()};
    words.insert(words.end(), more.begin(), more.end());
    return headlens(words);
  }
  TempDir dir_;
};

// What the model writes to the first question is made its right answer: one of two is right then.
TEST_F(WrittenAnswersTest, AreJudgedByTheTasksRules) {
  write_task("nothing");
  const Called before = eval({"--json"});
  ASSERT_EQ(before.status, 0) << before.err;
  const Json texts = before.json()["texts"];
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(before.json()["rules"][0]["rule"], "strict-match");
  EXPECT_EQ(before.json()["rules"][0]["accuracy"], 0);
  write_task(texts[0]);
  const Json after = eval({"--json"}).json();
  EXPECT_EQ(after["texts"], texts);
  EXPECT_EQ(after["rules"][0]["accuracy"], 0.5);
  EXPECT_LT(after["rules"][0]["accuracy_ci"][0], 0.5);
  const Json cut = eval({"--json", "--layers", "0"}).json();
  EXPECT_NE(cut["texts"], texts);
  EXPECT_EQ(cut["rules"][0]["accuracy"], 0);
}

// Weights of the shape in config.json: the same every time, whatever weights lie beside it.
TEST(EvalCommand, RunsRandomWeights) {
  const TempDir dir;
  const std::filesystem::path model = model_with_words(dir, "llama");
  const std::vector<std::string> words = {"eval",     "random:" + model.string(),
                                          "--device", "cpu",
                                          "--task",   "jsonl:" + word_task(dir, 12).string(),
                                          "--quiet",  "--json"};
  const Called with = headlens(words);
  ASSERT_EQ(with.status, 0) << with.err;
  std::filesystem::remove(model / "model.safetensors");
  EXPECT_EQ(headlens(words).out, with.out);
  std::vector<std::string> own = words;
  own[1] = model.string();
  EXPECT_EQ(headlens(own).status, 1);  // the checkpoint itself is gone
}

TEST_F(WrittenAnswersTest, CutsAreForThemAlone) {
  const Called called = headlens({"eval", model_with_words(dir_, "llama").string(), "--task",
                                  "mcq:n=8", "--heads", "0.0", "--quiet"});
  EXPECT_EQ(called.status, 2);
  EXPECT_EQ(
      called.err,
      "headlens: error: [eval] --heads, --layers and --mlp, expected with tasks whose answers "
      "are written, as gsm8k and bbh (others: headlens ablate), got mcq:n=8\n");
}

}  // namespace
}  // namespace headlens
