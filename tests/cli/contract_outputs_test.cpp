// headlens/tests: what each command prints and writes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cli/command_tools.h"
#include "headlens/core/safetensors.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::kGoldens;
using testing::model_with_words;
using testing::TempDir;
using testing::word_task;

const char* const kFamilies[] = {"llama",  "mamba",      "falcon_mamba", "mamba2",    "bamba",
                                 "llamba", "nemotron_h", "gemma2",       "gpt2",      "gpt_neox",
                                 "qwen3",  "phi3",       "olmo2",        "falcon_h1", "jamba"};

class Outputs : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }
  Called done(const std::vector<std::string>& words) const {
    Called called = headlens(words);
    EXPECT_EQ(called.status, 0) << called.err;
    return called;
  }
  TempDir dir_;
  std::string model_ = model_with_words(dir_, "llama").string();
};

TEST_F(Outputs, Tokenize) {
  EXPECT_EQ(done({"tokenize", model_, "--text", "w3 w1 zzz", "--text", "w7"}).out,
            "[3,1,90]\n[7]\n");
  EXPECT_EQ(done({"tokenize", model_ + "/tokenizer.json", "--text", ""}).out, "[]\n");
  const std::string file = dir_.write("text.txt", "w1\nw2\n").string();
  EXPECT_EQ(done({"tokenize", model_, "--file", file, "--out", path("ids.json")}).out, "[1,2]\n");
  EXPECT_EQ(testing::read_file(path("ids.json")), "[1,2]\n");
  EXPECT_EQ(done({"tokenize", model_, "--decode", "3,1"}).out, "w3 w1\n");
  EXPECT_EQ(done({"tokenize", model_, "--decode", "3,1", "--json"}).out, "\"w3 w1\"\n");
}

TEST_F(Outputs, TaskPrintsWhatIsAskedAndEvalDividesByLengths) {
  const TempDir dir;
  const std::string line =
      R"({"prompt": "w1 w2", "choices": [" w3", " w4"], "answer": 0, "choice_lengths": [1, 9000]})";
  const std::string task = "jsonl:" + dir.write("t.jsonl", line + "\n").string();
  const Called shown = headlens({"task", task});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_EQ(shown.json()["choice_lengths"], (Json{1, 9000}));
  EXPECT_EQ(shown.json()["prompt"], "w1 w2");
  const Called made = headlens({"task", "mqar:n=2,pairs=3,queries=1", "--seed", "5"});
  EXPECT_EQ(std::count(made.out.begin(), made.out.end(), '\n'), 2);
  const std::string gsm8k = dir.write("g.jsonl", R"({"question": "Q?", "answer": "#### 1"})"
                                                 "\n")
                                .string();
  const Json free = headlens({"task", "gsm8k:" + gsm8k + ",shots=0"}).json();
  EXPECT_EQ(free["prompt"], "Question: Q?\nAnswer:");
  EXPECT_EQ(free["target"], "#### 1");
  const std::string model = model_with_words(dir, "llama").string();
  const Called scored = headlens({"eval", model, "--task", task, "--json", "--quiet"});
  EXPECT_EQ(scored.status, 0) << scored.err;
  EXPECT_EQ(scored.json()["accuracy_norm"], 0.0);  // 9000 times closer to 0 is the other one
}

TEST_F(Outputs, TokenizeAChat) {
  Json config = {{"bos_token", "w8 "}};
  config["chat_template"] = Json::parse(testing::read_file(
      testing::kGoldens / "chat" / "expected.json"))["cases"]["gemma"]["template"];
  dir_.write("llama/tokenizer_config.json", config.dump());
  const std::string chat = dir_.write("chat.json", R"([{"role": "user", "content": "w3 w1 "}])");
  // "w8 <start_of_turn>user w3 w1<end_of_turn> (<start_of_turn>model)" in words.
  EXPECT_EQ(done({"tokenize", model_, "--chat", chat}).out, "[8,90,3,90]\n");
  EXPECT_EQ(done({"tokenize", model_, "--chat", chat, "--generation-prompt"}).out,
            "[8,90,3,90,90]\n");
}

// Words the other way round: the same text is other ids, and the command reads them.
TEST_F(Outputs, ATokenizerOfOnesOwn) {
  const std::string other =
      dir_.write("other.json", R"({"model": {"type": "WordLevel", "unk_token": "w1",
                                             "vocab": {"w1": 0, "w0": 1}}})")
          .string();
  const auto ids_of = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"run",    model_, "--record", "hook_embed",
                                      "--text", "w1",   "--out",    path("ids.safetensors")};
    words.insert(words.end(), more.begin(), more.end());
    done(words);
    return SafetensorsFile::open(path("ids.safetensors")).tensor("input_ids").item<int64_t>();
  };
  EXPECT_EQ(ids_of({}), 1);
  EXPECT_EQ(ids_of({"--tokenizer", other}), 0);
}

// `first` in the file of ids: rows padded on the left give what they give alone.
TEST_F(Outputs, RunAndVerifyTakeLeftPadding) {
  const auto padded = SafetensorsFile::open(kGoldens / "llama" / "padded.safetensors");
  const Tensor ids = padded.tensor("input_ids"), first = padded.tensor("first");
  save_safetensors(path("ids.safetensors"), {{"input_ids", ids}, {"first", first}});
  done({"run", model_, "--ids", path("ids.safetensors"), "--record", "logits", "--out",
        path("out.safetensors")});
  const auto out = SafetensorsFile::open(path("out.safetensors"));
  for (int64_t row = 0; row < ids.size(0); ++row) {
    const Tensor ours = out.tensor("logits").narrow(0, row, 1).slice(1, first[row].item<int64_t>());
    const Tensor alone = padded.tensor("logits." + std::to_string(row));
    EXPECT_LT((ours - alone).abs().max().item<double>(), 1e-4) << row;  // float32, logits of 8
  }
  EXPECT_TRUE(at::equal(out.tensor("first"), first));
  done({"verify", model_, "--golden", path("out.safetensors")});
}

TEST_F(Outputs, InspectListsEverySiteOnce) {
  const Json all = done({"inspect", model_, "--json", "--pos", "10", "--batch", "2"}).json();
  EXPECT_EQ(all["family"], "llama");
  ASSERT_EQ(all["layers"].size(), 3u);
  EXPECT_EQ(
      all["layers"][0],
      Json({{"kind", "attention"}, {"heads", 4}, {"d_head", 12}, {"kv_heads", 2}, {"d_mlp", 52}}));
  EXPECT_EQ(all["pattern"], "AAA");
  // Two of the three maps of a layer are [2, 4, 10, 10]: scores and pattern, float32.
  EXPECT_EQ(all["recording"]["map_bytes"], 3 * 2 * 2 * 4 * 10 * 10 * 4);
  const std::string text = done({"inspect", model_}).out;
  EXPECT_NE(text.find("0-2: attention, 4 heads of width 12 (2 key/value heads), gated MLP of width "
                      "52\n"),
            std::string::npos);
  EXPECT_NE(text.find("sites blocks.I. with I = 0-2\n"), std::string::npos);
  size_t in_blocks = 0, lines = 0;
  for (const Json& site : all["sites"]) {
    const std::string name = site["name"];
    in_blocks += name.starts_with("blocks.");
    const std::string shown = name.starts_with("blocks.0.") ? name.substr(9) : name;
    if (!name.starts_with("blocks.") || name.starts_with("blocks.0.")) {
      EXPECT_NE(text.find("\n  " + shown + " "), std::string::npos) << name;
      ++lines;
    }
  }
  EXPECT_EQ(lines, all["sites"].size() - in_blocks / 3 * 2);
  EXPECT_EQ(text.find("1=1"), std::string::npos);
}

TEST_F(Outputs, InspectGroupsTheLayersOfAHybrid) {
  const std::string text = done({"inspect", (kGoldens / "bamba").string()}).out;
  EXPECT_NE(text.find("\n  0, 2: mamba2, 6 heads of width 12, gated MLP"), std::string::npos);
  EXPECT_NE(text.find("\n  1: attention, 3 heads"), std::string::npos);
}

TEST_F(Outputs, InspectNumbersTheHeadsOfTwoMixers) {
  const std::string falcon = (kGoldens / "falcon_h1").string();
  EXPECT_NE(done({"inspect", falcon})
                .out.find("\n  0-1: heads 0..5 mamba2 of width 6, heads 6..9 attention of width 10 "
                          "(2 key/value heads), gated MLP of width 38\n"),
            std::string::npos);
  const Json layer = done({"inspect", falcon, "--json"}).json()["layers"][1];
  EXPECT_EQ(layer, Json::parse(R"({"kind": "mamba2+attention", "heads": 10, "d_mlp": 38, "mixers": [
      {"kind": "mamba2", "first_head": 0, "heads": 6, "d_head": 6, "d_state": 5, "d_conv": 4,
       "groups": 2},
      {"kind": "attention", "first_head": 6, "heads": 4, "d_head": 10, "kv_heads": 2}]})"));
  const std::string zamba = done({"inspect", (kGoldens / "zamba2").string()}).out;
  EXPECT_NE(zamba.find("\n  0, 3, 5: mamba2, 4 heads of width 10\n"), std::string::npos);
  EXPECT_NE(
      zamba.find("\n  1-2, 4, 6: heads 0..3 mamba2 of width 10, heads 4..7 attention of width "
                 "10 (4 key/value heads), gated MLP of width 26, attention and MLP of a "
                 "shared block\n"),
      std::string::npos);
}

// Heads of both mixers by the numbers that `inspect` gives them.
TEST_F(Outputs, MapReadsHeadsOfTwoMixers) {
  for (const char* family : {"falcon_h1", "zamba2"}) {
    const std::string model = model_with_words(dir_, family).string();
    const int64_t first = family == std::string("zamba2") ? 4 : 6;  // of attention
    const std::string own = "1." + std::to_string(first - 1),
                      attention = "1." + std::to_string(first);
    done({"map", model, "--text", "w1 w2 w3 w4 w5", "--heads", own + "," + attention, "--out",
          path("maps.safetensors")});
    done({"run", model, "--text", "w1 w2 w3 w4 w5", "--record",
          "blocks.1.{mixer.hook_map,attn.hook_pattern}", "--out", path("dense.safetensors")});
    const SafetensorsFile maps = SafetensorsFile::open(path("maps.safetensors"));
    const SafetensorsFile dense = SafetensorsFile::open(path("dense.safetensors"));
    const auto expect_same = [&](const std::string& name, const Tensor& expected) {
      // float32: rows made alone and all at once round differently
      EXPECT_TRUE(at::allclose(maps.tensor(name), expected, 1e-5, 1e-6)) << family << name;
    };
    expect_same("map." + own, dense.tensor("blocks.1.mixer.hook_map")[0][first - 1]);
    expect_same("map." + attention, dense.tensor("blocks.1.attn.hook_pattern")[0][0]);
    EXPECT_NE(headlens({"map", model, "--text", "w1", "--heads", "1.10", "--out",
                        path("maps.safetensors")})
                  .err.find("[heads] 1.10, expected a head from 0 to "),
              std::string::npos);
    done({"map", model, "--text", "w1 w2 w3", "--heads", own + "," + attention, "--out",
          path("maps.html")});
    const std::string page = testing::read_file(path("maps.html"));
    EXPECT_NE(page.find("\"mamba2+attention\""), std::string::npos);
  }
}

TEST_F(Outputs, VerifyAgreesWithEveryGolden) {
  for (const char* family : kFamilies) {
    const std::string golden = (kGoldens / family / "golden.safetensors").string();
    const Json r =
        done({"verify", (kGoldens / family).string(), "--golden", golden, "--json"}).json();
    EXPECT_EQ(r["agrees"], true) << family;
    EXPECT_GT(r["tensors"].size(), 10u) << family;
  }
}

TEST_F(Outputs, VerifySaysWhichTensorDiffers) {
  const SafetensorsFile golden = SafetensorsFile::open(kGoldens / "llama" / "golden.safetensors");
  Tensor logits = golden.tensor("logits").clone();
  logits[0][3][5] += 0.5;
  const std::string changed = path("changed.safetensors");
  save_safetensors(changed, {{"input_ids", golden.tensor("input_ids")},
                             {"logits", logits},
                             {"hook_embed", golden.tensor("hook_embed")}});
  const Called json = headlens({"verify", model_, "--golden", changed, "--json"});
  EXPECT_EQ(json.status, 1);
  EXPECT_EQ(json.err, "");
  const Json r = json.json();
  EXPECT_EQ(r["agrees"], false);
  EXPECT_EQ(r["tensors"][0]["name"], "hook_embed");
  EXPECT_EQ(r["tensors"][0]["agrees"], true);
  EXPECT_EQ(r["tensors"][1]["outside"], 1);
  EXPECT_NEAR(r["tensors"][1]["max_difference"], 0.5, 1e-4);
  const Called table = headlens({"verify", model_, "--golden", changed});
  EXPECT_EQ(table.status, 1);
  EXPECT_NE(table.out.find("1 of 2 tensors agree"), std::string::npos);
}

TEST_F(Outputs, ChoicesOfTheSameTokensAreSaid) {
  // Words the tokenizer does not know are one and the same token.
  std::ofstream(path("same.jsonl")) << R"({"prompt": "w1", "choices": [" x", " y"], "answer": 0})"
                                    << "\n";
  const std::vector<std::string> words = {"eval", model_, "--task", "jsonl:" + path("same.jsonl")};
  const Called said = headlens(words);
  EXPECT_EQ(said.status, 0);
  EXPECT_NE(said.err.find("[task] 1 of 1 examples have choices with the same tokens"),
            std::string::npos)
      << said.err;
}

TEST_F(Outputs, VerifyLetsNoInfinityPass) {
  const SafetensorsFile golden = SafetensorsFile::open(kGoldens / "llama" / "golden.safetensors");
  for (const double wrong : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    Tensor logits = golden.tensor("logits").clone();
    logits[0][3][5] = wrong;
    save_safetensors(path("odd.safetensors"),
                     {{"input_ids", golden.tensor("input_ids")}, {"logits", logits}});
    const Called r = headlens({"verify", model_, "--golden", path("odd.safetensors"), "--json"});
    EXPECT_EQ(r.status, 1) << wrong;
    EXPECT_EQ(r.json()["tensors"][0]["outside"], 1) << wrong;
  }
}

TEST_F(Outputs, RunRecordsWhatTheGoldenHolds) {
  const SafetensorsFile golden = SafetensorsFile::open(kGoldens / "llama" / "golden.safetensors");
  const std::string out = path("run.safetensors");
  const Json listing =
      done({"run", model_, "--ids", (kGoldens / "llama" / "golden.safetensors").string(),
            "--record", "blocks.*.attn.hook_pattern", "logits", "--out", out, "--json"})
          .json();
  const SafetensorsFile recorded = SafetensorsFile::open(out);
  EXPECT_EQ(listing["out"], out);
  EXPECT_EQ(listing["tensors"].size(), recorded.names().size());
  EXPECT_EQ(recorded.names(),
            (std::vector<std::string>{"blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern",
                                      "blocks.2.attn.hook_pattern", "input_ids", "logits"}));
  EXPECT_TRUE(at::allclose(recorded.tensor("logits"), golden.tensor("logits"), 1e-4, 1e-4));
  EXPECT_EQ(recorded.metadata().at("model"), model_);
}

/// Row i, key j of the map named `name`, from the sites that `run` records.
TEST_F(Outputs, MapsAreTheOnesOfTheirHeads) {
  for (const std::string family : {"llama", "mamba2", "mamba"}) {
    const std::string model = model_with_words(dir_, family).string();
    const std::string text = "w1 w5 w9 w2 w40";
    const std::string site = family == "llama" ? "attn.hook_pattern" : "mixer.hook_map";
    done({"run", model, "--text", text, "--record", "blocks.*." + site, "--out",
          path("all.safetensors")});
    // Later layers first: the order of --heads is not the order in which maps are made.
    const Json listing = done({"map", model, "--text", text, "--heads", "2.3,0.1-2", "--out",
                               path("maps.safetensors"), "--json"})
                             .json();
    EXPECT_EQ(listing["maps"].size(), 3u);
    const SafetensorsFile all = SafetensorsFile::open(path("all.safetensors"));
    const SafetensorsFile maps = SafetensorsFile::open(path("maps.safetensors"));
    for (const auto& [layer, head] : {std::pair(2, 3), {0, 1}, {0, 2}}) {
      const std::string name = "map." + std::to_string(layer) + "." + std::to_string(head);
      const Tensor whole = all.tensor("blocks." + std::to_string(layer) + "." + site)[0][head];
      EXPECT_TRUE(at::allclose(maps.tensor(name), whole, 1e-5, 1e-6)) << family << " " << name;
    }
    done({"map", model, "--text", text, "--heads", "2.3", "--rows=-1,0", "--normalize", "--out",
          path("rows.safetensors")});
    const SafetensorsFile rows = SafetensorsFile::open(path("rows.safetensors"));
    EXPECT_TRUE(at::equal(rows.tensor("rows"), at::tensor({4, 0}, at::kLong)));
    const Tensor whole = all.tensor("blocks.2." + site)[0][3].abs();
    const Tensor wanted = at::stack({whole[4] / whole[4].sum(), whole[0] / whole[0].sum()});
    EXPECT_TRUE(at::allclose(rows.tensor("map.2.3"), wanted, 1e-5, 1e-6)) << family;
  }
}

TEST_F(Outputs, AMapPageIsOneFile) {
  done({"map", model_, "--text", "w1 w2", "--heads", "1.2", "--out", path("m.html")});
  const std::string page = testing::read_file(path("m.html"));
  EXPECT_EQ(Json::parse(testing::read_file(path("m.json")))["maps"][0]["size"], 2);
  EXPECT_NE(page.find("\"layer\":1"), std::string::npos);
  EXPECT_NE(page.find("headlens map " + model_ + " --text 'w1 w2' --heads 1.2"), std::string::npos);
  for (const char* outside : {"<link", "src=", "href=", "@import", "url("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
}

TEST_F(Outputs, EvalInAllThreeForms) {
  const std::string task = "jsonl:" + word_task(dir_).string();
  const Called text = done({"eval", model_, "--task", task, "--quiet", "--out", path("e.json")});
  EXPECT_EQ(text.err, "");
  EXPECT_NE(text.out.find(" over 24 examples\n"), std::string::npos) << text.out;
  const Json json = done({"eval", model_, "--task", task, "--json"}).json();
  EXPECT_EQ(json["examples"], 24);
  EXPECT_EQ(Json::parse(testing::read_file(path("e.json"))), json);
}

TEST_F(Outputs, HelpAndVersion) {
  EXPECT_EQ(done({"--version"}).out.find("headlens "), 0u);
  EXPECT_NE(done({"--help"}).out.find("ablate"), std::string::npos);
  EXPECT_NE(done({"find", "--help"}).out.find("kv:pairs=20,n=512"), std::string::npos);
}

}  // namespace
}  // namespace headlens
