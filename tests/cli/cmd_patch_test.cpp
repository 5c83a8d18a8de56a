// headlens/tests: `patch`: where bundled models have the answer, its files, and what it refuses.
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

Called patch(const std::string& model, const std::string& task, std::vector<std::string> more) {
  more.insert(more.begin(), {"patch", model, "--task", task, "--device", "cpu", "--quiet"});
  return headlens(more);
}

double recovered(const Json& site, int64_t layer, const std::string& positions) {
  for (const Json& cell : site["cells"]) {
    if (cell["layer"] == layer && cell["positions"] == positions) {
      return cell["recovered"].get<double>();
    }
  }
  ADD_FAILURE() << "no cell " << layer << " " << positions;
  return 0;
}

// The value stands at its pair's end until one layer of attention takes it to the last token.
TEST(PatchCommand, TheAnswerMovesFromItsSegmentToTheLastToken) {
  const auto moves = [](const std::string& model, int64_t before, int64_t behind) {
    const Called called =
        patch(model, "kv:pairs=8,n=12", {"--positions", "right_end,wrong_end,last", "--json"});
    ASSERT_EQ(called.status, 0) << called.err;
    const Json site = called.json()["sites"][0];
    EXPECT_NEAR(recovered(site, before, "right_end"), 1, 0.05);
    EXPECT_NEAR(recovered(site, before, "last"), 0, 0.05);
    EXPECT_NEAR(recovered(site, before, "wrong_end"), 0, 0.05);
    if (behind < 0) return;
    EXPECT_NEAR(recovered(site, behind, "right_end"), 0, 0.05);
    EXPECT_NEAR(recovered(site, behind, "last"), 1, 0.05);
  };
  moves("zoo:transformer", 1, 2);
  moves("zoo:hybrid", 3, -1);  // in its last layer
}

TEST(PatchCommand, WritesWhatItFound) {
  const TempDir dir;
  const std::string out = (dir.path() / "out").string();
  const Called called = patch("zoo:transformer", "mcq:options=4,n=16",
                              {"--site", "resid,z", "--attribution", "--out", out, "--json"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json json = called.json();
  EXPECT_EQ(json, Json::parse(read_file(out + "/patching.json")));
  EXPECT_EQ(json["schema"], "headlens.patching/1");
  EXPECT_EQ(json["corruption"], "swap");
  EXPECT_GT(json["clean"]["accuracy"], 0.9);
  EXPECT_LT(json["corrupted"]["accuracy"], 0.1);
  const Json& resid = json["sites"][0];
  EXPECT_NEAR(recovered(resid, 0, "all"), 1, 1e-3);
  EXPECT_NEAR(recovered(resid, 0, "last"), 0, 1e-3);  // the last token is the same in both
  const Json& z = json["sites"][1];
  EXPECT_EQ(z["cells"].size(), z["positions"].size() * 16);
  for (const char* key : {"rank_correlation", "mean_absolute_error", "mean_absolute_change"}) {
    EXPECT_TRUE(z["attribution"].contains(key)) << key;
  }
  EXPECT_EQ(z["attribution"]["worst"].size(), 5u);
  const std::string csv = read_file(out + "/patching.csv");
  EXPECT_EQ(static_cast<size_t>(std::count(csv.begin(), csv.end(), '\n')),
            1 + resid["cells"].size() + z["cells"].size());
  const std::string page = read_file(out + "/patching.html");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("attention 3.3"), std::string::npos);
}

TEST(PatchCommand, StatesOfAStateSpaceModelCarryTheAnswer) {
  const Called called = patch("zoo:mamba2", "mcq:options=4,n=12",
                              {"--site", "state,map", "--json", "--direction", "noising"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json json = called.json();
  EXPECT_EQ(json["direction"], "noising");
  const Json& state = json["sites"][0];
  for (const Json& name : state["positions"]) EXPECT_TRUE(name != "last" && name != "all");
  double least = 1;
  for (const Json& cell : state["cells"]) {
    least = std::min(least, cell["recovered"].get<double>());
    EXPECT_EQ(cell["part"], "mamba2");
  }
  EXPECT_LT(least, 0.9);  // one head's state alone loses some of the answer
}

TEST(PatchCommand, MayLeaveOutExamplesWithoutAPair) {
  const TempDir dir;
  const std::string line =
      R"({"prompt": "w1 w2 w3", "choices": [" w4", " w5"], "answer": 0, "corrupted": )";
  const std::string paired = line + R"("w1 w7 w3", "corrupted_answer": 1})" + "\n";
  const std::string longer = line + R"("w1 w7 w3 w3", "corrupted_answer": 1})" + "\n";
  const std::string task = "jsonl:" + dir.write("t.jsonl", longer + paired + paired).string();
  const std::string model = model_with_words(dir, "llama").string();
  EXPECT_EQ(patch(model, task, {}).status, 1);
  const Called called = patch(model, task, {"--drop-unpaired", "--json"});
  ASSERT_EQ(called.status, 0) << called.err;
  EXPECT_EQ(called.json()["left_out"], 1);
  EXPECT_EQ(called.json()["examples"], 2);
  EXPECT_EQ(called.json()["sites"][0]["positions"], Json({"last", "all"}));
}

TEST(PatchCommand, RefusesInOneLine) {
  const TempDir dir;
  const std::string model = model_with_words(dir, "llama").string();
  const std::string task = "jsonl:" + word_task(dir, 6).string();
  const auto line = [&](std::vector<std::string> more, int status) {
    const Called called = patch(model, task, std::move(more));
    EXPECT_EQ(called.status, status) << called.err;
    return called.err;
  };
  EXPECT_EQ(line({"--site", "mixer"}, 2),
            "headlens: error: [patch] --site, expected one of resid, attn_out, mlp_out, z, "
            "pattern, map, state, got 'mixer'\n");
  EXPECT_EQ(line({"--direction", "up"}, 2),
            "headlens: error: [patch] --direction, expected denoising or noising, got 'up'\n");
  EXPECT_EQ(line({"--corrupt", "noise"}, 2),
            "headlens: error: [patch] --corrupt, expected given, swap or example, got 'noise'\n");
  const std::string unlike = line({"--corrupt", "example"}, 1);
  EXPECT_EQ(unlike.find("headlens: error: [corrupt] "), 0u) << unlike;
  EXPECT_NE(unlike.find("task.jsonl line"), std::string::npos) << unlike;
  const Called state = patch("zoo:transformer", "mcq:options=4,n=4", {"--site", "state"});
  EXPECT_EQ(state.status, 2);
  EXPECT_EQ(state.err,
            "headlens: error: [patch] site state, expected a layer that has it, got none\n");
}

}  // namespace
}  // namespace headlens
