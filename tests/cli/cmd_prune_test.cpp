// headlens/tests: `prune` on models of words and on the bundled ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

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

class PruneCommand : public ::testing::Test {
 protected:
  Called run(const std::string& family, std::vector<std::string> more) const {
    std::vector<std::string> words = {"prune", model_with_words(dir_, family).string(), "--task",
                                      task_, "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return headlens(words);
  }

  TempDir dir_;
  std::string task_ = "jsonl:" + word_task(dir_, 12).string();
};

TEST_F(PruneCommand, WritesTheWholeCurveForEveryKindOfModel) {
  for (const char* family : {"llama", "falcon_mamba", "mamba2", "llamba", "jamba", "zamba2"}) {
    SCOPED_TRACE(family);
    const std::string out = (dir_.path() / "out" / family).string();
    const Called called = run(family, {"--against", task_, "--leave-one-out", "--threshold", "0",
                                       "--out", out, "--json"});
    ASSERT_EQ(called.status, 0) << called.err;
    const Json found = called.json();
    EXPECT_EQ(found["schema"], "headlens.prune/1");
    const Json written = Json::parse(read_file(out + "/prune.json"));
    EXPECT_EQ(written, found);
    const size_t layers = found["curve"].size() - 1;
    EXPECT_EQ(found["without_layer"].size(), layers);
    // The last point is what `eval` says of the model.
    const Json eval = headlens({"eval", model_with_words(dir_, family).string(), "--task", task_,
                                "--json", "--quiet"})
                          .json();
    const Json& last = found["curve"][layers]["scores"][0];
    EXPECT_EQ(last["accuracy"], eval["accuracy"]);
    EXPECT_EQ(last["accuracy_ci"], eval["accuracy_ci"]);
    EXPECT_NEAR(last["mean_logprob"], eval["mean_logprob"], 1e-3);  // float32, other batches
    // A header; for each of two tasks all depths, layers and, where there are heads, rows.
    const std::string csv = read_file(out + "/prune.csv");
    const auto lines = static_cast<size_t>(std::count(csv.begin(), csv.end(), '\n'));
    EXPECT_EQ(lines, 1 + 2 * (2 * layers + 1 + found["contrast"]["rows"].size()));
    EXPECT_NE(csv.find("contrast,full,"), std::string::npos);
  }
}

TEST_F(PruneCommand, NamesTheFewestLayersThatReachTheRule) {
  const auto found = [&](std::vector<std::string> more) {
    more.push_back("--json");
    const Called called = run("llama", std::move(more));
    EXPECT_EQ(called.status, 0) << called.err;
    return called.json();
  };
  const Json all = found({"--tolerance", "1"});
  EXPECT_EQ(all["minimal"]["layers"], 0);
  EXPECT_LT(all["minimal"]["weight_bytes"], all["minimal"]["full_weight_bytes"]);
  EXPECT_FALSE(all.contains("contrast"));
  const Json none = found({"--threshold", "1"});
  EXPECT_FALSE(none.contains("minimal"));
  EXPECT_NE(run("llama", {"--threshold", "1"}).out.find("no depth has an accuracy of at least 1"),
            std::string::npos);
  // With heads off the whole model is what `ablate` leaves of it.
  const auto ablated = [&](std::vector<std::string> more) {
    std::vector<std::string> words = {
        "ablate", model_with_words(dir_, "llama").string(), "--task", task_, "--json", "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return headlens(words).json()["ablated"];
  };
  const auto last = [](const Json& json) { return json["curve"].back()["scores"][0]; };
  const Json without = last(found({"--without", "0.1,1.2"}));
  EXPECT_NEAR(without["mean_logprob"], ablated({"--heads", "0.1,1.2"})["mean_logprob"], 1e-4);
  const Json only = last(found({"--only", "0.1,1.2"}));
  EXPECT_NEAR(only["mean_logprob"], ablated({"--heads", "0.1,1.2", "--keep"})["mean_logprob"],
              1e-4);
}

TEST_F(PruneCommand, SaysWhatIsWrong) {
  const auto wrong = [&](const std::vector<std::string>& more) {
    const Called called = run("llama", more);
    EXPECT_EQ(called.status, 2);
    return called.err;
  };
  EXPECT_EQ(wrong({"--tolerance", "2"}),
            "headlens: error: [prune] --tolerance, expected 0 to 1, got 2\n");
  EXPECT_EQ(wrong({"--without", "0.1", "--only", "0.2"}),
            "headlens: error: [prune] heads that are off, expected --without or --only, got "
            "both\n");
  EXPECT_EQ(wrong({"--without", "0.1", "--against", task_}),
            "headlens: error: [prune] --against with heads off, expected --heads as well (heads "
            "are searched in a model that has all of its own), got none\n");
  EXPECT_EQ(wrong({"--tolerance", "0.1", "--threshold", "0.5"}),
            "headlens: error: [prune] rule, expected --tolerance or --threshold, got both\n");
  EXPECT_EQ(wrong({"--groups", "4"}),
            "headlens: error: [prune] --groups and --min-drop, expected where heads are searched "
            "(--against without --heads), got another call\n");
  EXPECT_EQ(wrong({"--placement", "pre_norm"}),
            "headlens: error: [prune] --placement, expected where heads are off, got none\n");
  EXPECT_EQ(wrong({"--without", "7.1"}),
            "headlens: error: [heads] 7.1, expected a layer from 0 to 2, got 7\n");
  EXPECT_EQ(wrong({"--heads", "2.0", "--tolerance", "1"}),
            "headlens: error: [heads] 2.0, expected a layer within the minimal model's first 0, "
            "got 2\n");
}

/// Accuracies of a row of the contrast, task by task.
std::vector<double> row(const Json& found, const std::string& model) {
  std::vector<double> all;
  for (const Json& one : found["contrast"]["rows"]) {
    if (one["model"] != model) continue;
    for (const Json& score : one["scores"]) all.push_back(score["accuracy"]);
  }
  return all;
}

// Letters need the heads that are found, facts do not: what the bundled Transformer and its
// Falcon-Mamba lose. Of 96 examples, guessing among four passes 0.5 once in a million times.
TEST(PruneOfTheZoo, RetrievalRestsOnItsHeadsAndKnowledgeDoesNot) {
  const auto prune = [](const char* model) {
    return headlens({"prune", model, "--task", "mcq:options=4,n=96", "--against",
                     "world-facts:n=96", "--seed", "3", "--quiet", "--json"})
        .json();
  };
  const Json transformer = prune("zoo:transformer");
  EXPECT_EQ(transformer["minimal"]["layers"], 4);
  EXPECT_GE(row(transformer, "minimal")[0], 0.95);
  EXPECT_LT(row(transformer, "without heads")[0], 0.6);
  EXPECT_GT(row(transformer, "without heads")[1], 0.8);
  EXPECT_FALSE(transformer["contrast"]["heads"]["aggregate"].empty());
  // Its last layer is not needed for letters, and knows a fifth of the facts.
  const Json mamba = prune("zoo:falcon-mamba");
  EXPECT_EQ(mamba["minimal"]["layers"], 3);
  EXPECT_LT(row(mamba, "minimal")[1], row(mamba, "full")[1] - 0.05);
  EXPECT_LT(row(mamba, "without heads")[0], row(mamba, "minimal")[0] - 0.2);
  EXPECT_NEAR(row(mamba, "without heads")[1], row(mamba, "minimal")[1], 0.1);
}

}  // namespace
}  // namespace headlens
