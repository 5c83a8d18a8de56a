// headlens/tests: recordings, maps and scores as files of other programs.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "cli/command_tools.h"
#include "headlens/core/npz.h"
#include "headlens/core/safetensors.h"

namespace headlens {
namespace {

using testing::Called;
using testing::Json;
using testing::model_with_words;
using testing::TempDir;
using testing::word_task;

class Exchange : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }
  std::string recorded(const std::string& name, const std::string& site = "hook_embed") const {
    const Called called = testing::headlens(
        {"run", model_, "--text", "w1 w5 w9", "--record", site, "--out", path(name)});
    EXPECT_EQ(called.status, 0) << called.err;
    return path(name);
  }
  TempDir dir_;
  std::string model_ = model_with_words(dir_, "llama").string();
};

TEST_F(Exchange, TheFourKindsHoldTheSameValues) {
  const Tensor whole = SafetensorsFile::open(recorded("r.safetensors")).tensor("hook_embed");
  EXPECT_TRUE(at::equal(NpzFile::open(recorded("r.npz")).tensor("hook_embed"), whole));
  const Json json = Json::parse(testing::read_file(recorded("r.json")));
  const Json& tensor = json["tensors"][0];
  EXPECT_EQ(tensor["name"], "hook_embed");
  EXPECT_EQ(tensor["dtype"], "float32");
  EXPECT_EQ(tensor["shape"], Json(whole.sizes().vec()));
  const auto values = tensor["values"].get<std::vector<float>>();
  EXPECT_TRUE(at::equal(at::tensor(values), whole.flatten()));
  std::istringstream csv(testing::read_file(recorded("r.csv")));
  std::string line;
  std::getline(csv, line);
  EXPECT_EQ(line, "tensor,i0,i1,i2,i3,i4,value");
  const auto at = [&](int64_t b, int64_t p, int64_t d) { return whole[b][p][d].item<float>(); };
  for (int64_t p = 0; p < 3; ++p) {
    for (int64_t d = 0; d < 36; ++d) {
      std::getline(csv, line);
      const std::string begin =
          "hook_embed,0," + std::to_string(p) + "," + std::to_string(d) + ",,,";
      ASSERT_TRUE(line.starts_with(begin)) << line;
      EXPECT_EQ(std::stof(line.substr(begin.size())), at(0, p, d));
    }
  }
}

TEST_F(Exchange, InfiniteScoresAreNullInJson) {
  const Json json =
      Json::parse(testing::read_file(recorded("s.json", "blocks.0.attn.hook_attn_scores")));
  EXPECT_TRUE(json["tensors"][0]["values"][1].is_null());  // query 0 does not see key 1
}

TEST_F(Exchange, VerifyTakesNpzAndNamesOfTransformerLens) {
  recorded("aliases.npz", "blocks.1.attn.o.hook_in");
  const Called called =
      testing::headlens({"verify", model_, "--golden", path("aliases.npz"), "--json"});
  EXPECT_EQ(called.status, 0) << called.err;
  EXPECT_EQ(called.json()["tensors"][0]["name"], "blocks.1.attn.o.hook_in");
  // As a cache of another library: no ids in it, and a name that there is not here.
  const Tensor z = NpzFile::open(path("aliases.npz")).tensor("blocks.1.attn.o.hook_in");
  save_npz(path("theirs.npz"), {{"blocks.1.attn.hook_z", z}, {"rotary_emb.hook_cos", z}});
  const auto verify = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"verify", model_, "--golden", path("theirs.npz")});
    return testing::headlens(more);
  };
  EXPECT_NE(verify({}).err.find("give the text with --text"), std::string::npos);
  EXPECT_NE(verify({"--text", "w1 w5 w9"}).err.find("--skip-unknown"), std::string::npos);
  const Called skipped = verify({"--text", "w1 w5 w9", "--skip-unknown", "--json"});
  EXPECT_EQ(skipped.status, 0) << skipped.err;
  EXPECT_EQ(skipped.json()["skipped"], Json({"rotary_emb.hook_cos"}));
  EXPECT_EQ(skipped.json()["tensors"].size(), 1U);
  EXPECT_EQ(verify({"--text", "w1 w5 w8", "--skip-unknown"}).status, 1);
}

TEST_F(Exchange, ScoresBecomeArraysOfLayersAndHeads) {
  const std::string task = "jsonl:" + word_task(dir_).string();
  ASSERT_EQ(testing::headlens(
                {"find", model_, "--task", task, "--heads", "0.1,2.3", "--out", path("found")})
                .status,
            0);
  const std::string scores = path("found") + "/scores.json";
  const Called called = testing::headlens({"export", scores, "--out", path("scores.npz")});
  ASSERT_EQ(called.status, 0) << called.err;
  const NpzFile arrays = NpzFile::open(path("scores.npz"));
  const Tensor drop = arrays.tensor("accuracy_drop");
  ASSERT_EQ(drop.sizes(), (std::vector<int64_t>{3, 4}));
  const Json written = Json::parse(testing::read_file(scores));
  for (const Json& head : written["heads"]) {
    const int64_t layer = head["layer"], number = head["head"];
    EXPECT_EQ(drop[layer][number].item<double>(), head["accuracy_drop"]);
    EXPECT_EQ(arrays.tensor("accuracy_drop_ci_low")[layer][number].item<double>(),
              head["accuracy_drop_ci"][0]);
  }
  EXPECT_TRUE(std::isnan(drop[1][0].item<double>()));
  EXPECT_EQ(testing::headlens({"export", path("none.json"), "--out", path("x.npz")}).status, 1);
  EXPECT_EQ(testing::headlens({"export", model_ + "/config.json", "--out", path("x.npz")}).status,
            2);
}

}  // namespace
}  // namespace headlens
