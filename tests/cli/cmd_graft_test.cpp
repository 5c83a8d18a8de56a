// headlens/tests: `graft` on models of words and on the bundled ones.
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

class GraftCommand : public ::testing::Test {
 protected:
  Called run(const std::string& recipient, std::vector<std::string> more) const {
    std::vector<std::string> words = {"graft", model_with_words(dir_, recipient).string(), "--task",
                                      task_, "--quiet"};
    words.insert(words.end(), more.begin(), more.end());
    return headlens(words);
  }
  std::string model(const std::string& family) const {
    return model_with_words(dir_, family).string();
  }
  std::string wrong(const std::vector<std::string>& more, int status = 2) const {
    const Called called = run("llama", more);
    EXPECT_EQ(called.status, status);
    return called.err;
  }

  TempDir dir_;
  std::string task_ = "jsonl:" + word_task(dir_, 12).string();
};

TEST_F(GraftCommand, PutsAModelIntoItselfAndNothingChanges) {
  const Json eval =
      headlens({"eval", model("mamba2"), "--task", task_, "--json", "--quiet"}).json();
  for (const char* flag : {"--all-layers", "--all-mixers", "--all-heads"}) {
    SCOPED_TRACE(flag);
    const std::string out = (dir_.path() / "graft.json").string();
    const Called called = run(
        "mamba2", {"--from", model("mamba2"), flag, "--knowledge", task_, "--json", "--out", out});
    ASSERT_EQ(called.status, 0) << called.err;
    const Json found = called.json();
    EXPECT_EQ(Json::parse(read_file(out)), found);
    EXPECT_EQ(found["schema"], "headlens.graft/1");
    EXPECT_EQ(found["donor"], model("mamba2"));
    EXPECT_EQ(found["tasks"][0]["part"], "retrieval");
    EXPECT_EQ(found["tasks"][1]["part"], "knowledge");
    EXPECT_EQ(found["tasks"][0]["base"]["accuracy"], eval["accuracy"]);
    EXPECT_EQ(found["tasks"][0]["base"]["accuracy_ci"], eval["accuracy_ci"]);
    EXPECT_EQ(found["manifest"]["options"]["checkpoint_donor"], found["manifest"]["checkpoint"]);
    ASSERT_EQ(found["grafts"].size(), std::string(flag) == "--all-heads" ? 12u : 3u);
    for (const Json& graft : found["grafts"]) {
      EXPECT_EQ(graft["donor"], graft["recipient"]);
      for (const Json& score : graft["scores"]) {
        EXPECT_EQ(score["grafted"]["accuracy"], eval["accuracy"]);
        EXPECT_EQ(score["gain"]["accuracy"], 0);
        EXPECT_NEAR(score["gain"]["logprob"], 0, 1e-4);  // float32, sums in another order
        EXPECT_LE(score["gain"]["logprob_ci"][0], score["gain"]["logprob_ci"][1]);
      }
    }
  }
}

TEST_F(GraftCommand, NamesWhatWentWhereAndItsControl) {
  const Called heads = run("mamba2", {"--from", model("llama"), "--head", "0.1:2.0,1.3", "--json"});
  ASSERT_EQ(heads.status, 0) << heads.err;
  const Json graft = heads.json()["grafts"][0];
  EXPECT_EQ(graft["kind"], "head");
  EXPECT_EQ(graft["donor"], Json({{0, 1}, {1, 3}}));
  EXPECT_EQ(graft["recipient"], Json({{2, 0}, {1, 3}}));
  const Json cut = headlens({"ablate", model("mamba2"), "--task", task_, "--heads", "2.0,1.3",
                             "--json", "--quiet"})
                       .json()["ablated"];
  EXPECT_EQ(graft["scores"][0]["cut"]["accuracy"], cut["accuracy"]);
  EXPECT_NEAR(graft["scores"][0]["cut"]["mean_logprob"], cut["mean_logprob"], 1e-4);
  const Json& score = graft["scores"][0];
  EXPECT_NEAR(score["gain"]["logprob"].get<double>(),
              score["grafted"]["mean_logprob"].get<double>() -
                  heads.json()["tasks"][0]["base"]["mean_logprob"].get<double>(),
              1e-9);
  EXPECT_NEAR(
      score["gain_over_cut"]["logprob"].get<double>(),
      score["grafted"]["mean_logprob"].get<double>() - score["cut"]["mean_logprob"].get<double>(),
      1e-9);
  const Json layers =
      run("mamba2", {"--from", model("llama"), "--layer", "2:0,1", "--json"}).json()["grafts"][0];
  EXPECT_EQ(layers["kind"], "layer");
  EXPECT_EQ(layers["donor"], Json({2, 1}));
  EXPECT_EQ(layers["recipient"], Json({0, 1}));
  const std::string text = run("mamba2", {"--from", model("llama"), "--layer", "2:0,1"}).out;
  EXPECT_NE(text.find("\n  layer 2:0,1  "), std::string::npos) << text;
}

TEST_F(GraftCommand, TrainsAnAttentionHeadInPlace) {
  const std::string words = "kv:pairs=2,n=24";
  const Called called =
      headlens({"graft", "zoo:llamba", "--train", "3", "--head", "3.2", "--task", words,
                "--knowledge", "world-facts:n=24", "--json", "--quiet", "--device", "cpu"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = called.json();
  EXPECT_EQ(found["train_steps"], 3);
  EXPECT_FALSE(found.contains("donor"));
  ASSERT_EQ(found["grafts"].size(), 2u);
  EXPECT_EQ(found["grafts"][0]["state"], "fresh");
  EXPECT_EQ(found["grafts"][1]["state"], "trained");
  EXPECT_EQ(found["grafts"][1]["recipient"], Json({{3, 2}}));
  EXPECT_NE(found["grafts"][0]["scores"][0]["grafted"]["mean_logprob"],
            found["grafts"][1]["scores"][0]["grafted"]["mean_logprob"]);
  EXPECT_EQ(found["manifest"]["options"]["train_examples"], "24");
}

TEST_F(GraftCommand, SaysWhatIsWrong) {
  const std::string begin = "headlens: error: [graft] ";
  EXPECT_EQ(wrong({"--from", model("mamba2")}),
            begin +
                "what to graft, expected one of --layer, --mixer, --head, --all-layers, "
                "--all-mixers and --all-heads, got none\n");
  EXPECT_EQ(wrong({"--from", model("mamba2"), "--layer", "0", "--all-heads"}),
            begin +
                "what to graft, expected one of --layer, --mixer, --head, --all-layers, "
                "--all-mixers and --all-heads, got several\n");
  EXPECT_EQ(wrong({"--layer", "0"}),
            begin + "--from, expected a donor (or --train, which needs none), got none\n");
  EXPECT_EQ(wrong({"--from", model("mamba2"), "--layer", "0:x"}),
            begin + "--layer, expected DONOR:RECIPIENT, two layers, or one for both, got '0:x'\n");
  EXPECT_EQ(wrong({"--from", model("mamba2"), "--head", "0.1:2"}),
            begin +
                "--head, expected DONOR:RECIPIENT, each LAYER.HEAD, or one for both, got "
                "'0.1:2'\n");
  EXPECT_EQ(wrong({"--from", model("mamba2"), "--layer", "7:0"}),
            begin + "layer of the donor, expected 0 to 2, got 7\n");
  EXPECT_EQ(wrong({"--from", model("gpt2"), "--layer", "0"}),
            begin + "width of the donor, expected the recipient's 36, got 30\n");
  EXPECT_EQ(wrong({"--from", "zoo:transformer", "--layer", "0"}),
            begin + "width of the donor, expected the recipient's 36, got 64\n");
  EXPECT_EQ(wrong({"--from", model("mamba2"), "--train", "5", "--head", "0.0"}),
            begin + "--train, expected without --from (its head is no other model's), got both\n");
  EXPECT_EQ(wrong({"--train", "5", "--layer", "0"}),
            begin + "--train, expected with one --head LAYER.HEAD, got none\n");
  EXPECT_EQ(wrong({"--from", model("mamba2"), "--layer", "0", "--rate", "0.1"}),
            begin + "--train-task and --rate, expected with --train, got it left out\n");
  EXPECT_EQ(wrong({"--train", "5", "--head", "0.0"}),
            begin + "--train-task, expected other examples than those of " + task_ +
                ", got the same for every seed\n");
}

// The donor's words are the recipient's, in another order.
TEST_F(GraftCommand, RefusesADonorThatReadsOtherIds) {
  const std::string donor = model("mamba2");
  std::string words = read_file(donor + "/tokenizer.json");
  const auto swap = [&](const std::string& from, const std::string& to) {
    const size_t at = words.find(from);
    ASSERT_NE(at, std::string::npos);
    words.replace(at, from.size(), to);
  };
  for (int i = 0; i < 89; i += 2) {
    const std::string even = std::to_string(i), odd = std::to_string(i + 1);
    swap("\"w" + even + "\":" + even, "\"w" + even + "\":" + odd);
    swap("\"w" + odd + "\":" + odd, "\"w" + odd + "\":" + even);
  }
  dir_.write("mamba2/tokenizer.json", words);
  EXPECT_EQ(wrong({"--from", donor, "--layer", "0"}),
            "headlens: error: [graft] tokenizer of the donor, expected the ids of the recipient's "
            "for " +
                task_ + ", got others\n");
}

}  // namespace
}  // namespace headlens
