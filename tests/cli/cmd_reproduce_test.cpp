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

// The SSM distilled from the bundled Transformer gets its layers and heads back; the Mamba-2 models
// differ in nothing but their state size. Rules worked out again from the figures.
TEST(ReproduceCommand, GraftsAndComparesStateSizes) {
  const Called called =
      reproduce({"C6", "C7", "--models", "zoo:transformer,variants,zoo:mamba2,zoo:llamba",
                 "--retrieval", "mcq:options=4,n=64", "--knowledge", "world-facts:n=64",
                 "--dictionaries", "kv:pairs={},n=64", "--pairs", "8"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json study = called.json();
  const auto outcome = [&](size_t claim, const std::string& model) {
    for (const Json& one : study["claims"][claim]["outcomes"]) {
      if (one["model"] == model) return one;
    }
    return Json();
  };
  const Json grafted = outcome(0, "zoo:llamba-distilled");
  const Json& figures = grafted["figures"];
  ASSERT_EQ(figures.size(), 9u);
  bool lifts = false;
  for (size_t i = 1; i < figures.size(); i += 4) {
    const double gain = figures[i + 1]["value"];
    EXPECT_NEAR(gain, figures[i]["value"].get<double>() - figures[0]["value"].get<double>(), 1e-12);
    lifts = lifts || figures[i + 1]["ci"][0] >= 0.05;
  }
  EXPECT_EQ(grafted["verdict"], lifts ? "holds" : "does not hold here");
  EXPECT_TRUE(lifts);
  EXPECT_EQ(outcome(0, "zoo:transformer")["verdict"], "not run");
  EXPECT_NE(outcome(0, "zoo:mamba2")["why"].get<std::string>().find("strangers"),
            std::string::npos);
  // Two figures without the head, and of three state sizes three accuracies and two drops.
  const Json sizes = outcome(1, "zoo:mamba2")["figures"];
  ASSERT_EQ(sizes.size(), 2u + 5u);
  EXPECT_LT(sizes[2]["value"], sizes[6]["value"]);  // state size 8 against 32
  EXPECT_NEAR(sizes[3]["value"].get<double>(),
              sizes[6]["value"].get<double>() - sizes[2]["value"].get<double>(), 1e-12);
  EXPECT_EQ(outcome(1, "zoo:mamba2-state16")["figures"].size(), 2u + 3u);  // against 8 alone
  EXPECT_EQ(outcome(1, "zoo:mamba2-state8")["figures"].size(), 2u);
  EXPECT_EQ(outcome(1, "zoo:llamba")["figures"].size(), 2u);  // the distilled one began elsewhere
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

/// A model of words, heads named for C3, and related tasks of every form.
class RelatedTasks : public ::testing::Test {
 protected:
  Json same_heads(const std::vector<std::string>& related) const {
    std::vector<std::string> words = {
        "C3", "--models", model_, "--heads", "0.0,1.1", "--knowledge", task_, "--retrieval", task_};
    for (const std::string& spec : related) words.insert(words.end(), {"--related", spec});
    const Called called = reproduce(words);
    EXPECT_EQ(called.status, 0) << called.err;
    return called.json()["claims"][0]["outcomes"][0];
  }
  Json eval(std::vector<std::string> more) const {
    more.insert(more.begin(), {"eval", model_, "--device", "cpu", "--quiet", "--json", "--task"});
    const Called called = headlens(more);
    EXPECT_EQ(called.status, 0) << called.err;
    return called.json();
  }
  /// BBH questions whose right answers are what the model writes, but for the last.
  std::string written_task() const {
    Json examples;
    for (int i = 0; i < 6; ++i) {
      examples.push_back(
          {{"input", fmt::format("w{} w{} w{}", 3 * i, 7 * i + 1, i)}, {"target", "w1"}});
    }
    const auto write = [&] {
      dir_.write("d/bbh/words.json", Json{{"canary", "c"}, {"examples", examples}}.dump());
    };
    dir_.write("d/cot-prompts/words.txt",
               "canary\n-----\nw5 w6.\n\nQ: w1\nA: Let's think step by step.\nSo w2.\n");
    write();
    const std::string spec = "bbh:" + (dir_.path() / "d").string() + ",tokens=5";
    const Json texts = eval({spec})["texts"];
    for (int i = 0; i < 5; ++i) examples[i]["target"] = texts[i];
    write();
    return spec;
  }
  TempDir dir_;
  std::string model_ = model_with_words(dir_, "llama").string();
  std::string task_ = "jsonl:" + word_task(dir_, 12).string();
};

// By their first rule, with heads cut while the answers are written: what `eval` says of both.
TEST_F(RelatedTasks, MayBeWritten) {
  const std::string spec = written_task();
  const double whole = eval({spec})["rules"][0]["accuracy"];
  const double left = eval({spec, "--heads", "0.0,1.1"})["rules"][0]["accuracy"];
  ASSERT_NEAR(whole, 5.0 / 6, 1e-12);
  ASSERT_LT(left, whole);
  const Json outcome = same_heads({spec});
  EXPECT_EQ(outcome["why"], "heads 0.0, 1.1 of " + task_ + ", off together");
  const Json& figures = outcome["figures"];
  ASSERT_EQ(figures.size(), 3u);
  EXPECT_EQ(figures[0]["what"], spec + ", whole");
  EXPECT_NEAR(figures[0]["value"], whole, 1e-12);
  EXPECT_NEAR(figures[1]["value"], whole - left, 1e-12);
  const bool holds = figures[1]["ci"][0] >= 0.05 && figures[2]["ci"][1] <= 0.05;
  EXPECT_EQ(outcome["verdict"], holds ? "holds" : "does not hold here");
}

// A bundled model solves no word problems: nothing can be lost, so nothing is said of the claim.
TEST_F(RelatedTasks, AtTheirFloorSayNothing) {
  const std::string file =
      dir_.write("gsm8k.jsonl", R"({"question": "w1 w2", "answer": "So.\n#### 4"})"
                                "\n"
                                R"({"question": "w3 w4", "answer": "So.\n#### 5"})"
                                "\n")
          .string();
  const std::string spec = "gsm8k:" + file + ",shots=0,tokens=4";
  const Json outcome = same_heads({spec});
  EXPECT_EQ(outcome["verdict"], "not run");
  EXPECT_EQ(outcome["why"], "heads 0.0, 1.1 of " + task_ + ", off together; at the floor: " + spec +
                                ": nothing is left to lose");
  EXPECT_EQ(outcome["figures"][0]["value"], 0);
  const std::string written = written_task();  // beside one that the model does, it does not count
  const Json both = same_heads({spec, written});
  EXPECT_NE(both["verdict"], "not run");
  EXPECT_NE(both["why"].get<std::string>().find("; at the floor: " + spec), std::string::npos);
}

TEST_F(RelatedTasks, MayBeDialogues) {
  const std::string file =
      dir_.write("dream.json",
                 R"([[["w1 w2.", "w3"], [{"question": "w4?", "choice": ["w5", "w6", "w7"],)"
                 R"( "answer": "w6"}], "1"]])")
          .string();
  dir_.write("mutual/dev_1.txt",
             R"({"article": "m : w1 w2", "options": ["w3", "w4", "w5", "w6"], "answers": "B"})");
  const std::vector<std::string> specs = {
      "dream:" + file + ",form=text", "mutual:" + (dir_.path() / "mutual").string() + ",form=text"};
  const Json figures = same_heads(specs)["figures"];
  for (size_t i = 0; i < specs.size(); ++i) {
    EXPECT_EQ(figures[2 * i]["what"], specs[i] + ", whole");
    EXPECT_EQ(figures[2 * i]["value"], eval({specs[i]})["accuracy"]);
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
  EXPECT_EQ(line({"C3", "--models", "zoo:llamba,zoo:mamba2", "--heads", "0.0"}),
            "headlens: error: [reproduce] --heads, expected with one model, got 2\n");
  EXPECT_EQ(line({"C3", "--resume"}),
            "headlens: error: [resume] --out, expected the one that was killed, got none\n");
}

}  // namespace
}  // namespace headlens
