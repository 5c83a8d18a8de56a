// headlens/tests: `find` against weights with a head's columns set to zero, one head at a time.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/command_tools.h"
#include "headlens/core/safetensors.h"
#include "headlens/model/language_model.h"

namespace headlens {
namespace {

using testing::Called;
using testing::headlens;
using testing::Json;
using testing::model_with_words;
using testing::TempDir;
using testing::word_examples;
using testing::word_task;

constexpr int kExamples = 24;
// Batched and single products round differently; log-probabilities are of order 10.
constexpr double kTolerance = 1e-4;

struct Answers {
  double accuracy = 0;
  double mean_logprob = 0;
};

std::vector<int64_t> ids_of(const std::string& text) {
  std::vector<int64_t> ids;
  std::istringstream words(text);
  for (std::string word; words >> word;) ids.push_back(std::stoll(word.substr(1)));
  return ids;
}

/// One forward a choice, nothing shared.
double choice_score(const LanguageModel& model, const Json& line, const std::string& choice) {
  const size_t prompt = ids_of(line["prompt"]).size();
  const std::vector<int64_t> ids = ids_of(line["prompt"].get<std::string>() + choice);
  const Tensor logits = model.forward(at::tensor(ids, at::kLong).unsqueeze(0))[0];
  const Tensor logprobs = at::log_softmax(logits.to(at::kDouble), -1);
  double score = 0;
  for (size_t i = prompt; i < ids.size(); ++i) {
    score += logprobs[static_cast<int64_t>(i) - 1][ids[i]].item<double>();
  }
  return score;
}

Answers plain_loop(const std::filesystem::path& model_dir) {
  const LanguageModel model = LanguageModel::load(model_dir);
  Answers answers;
  for (const Json& line : word_examples(kExamples)) {
    std::vector<double> scores;
    for (const Json& choice : line["choices"]) {
      scores.push_back(choice_score(model, line, choice));
    }
    const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
    answers.accuracy += (best == line["answer"].get<int64_t>()) / static_cast<double>(kExamples);
    answers.mean_logprob += scores[line["answer"].get<size_t>()] / kExamples;
  }
  return answers;
}

/// Sets the columns first .. last of a layer's output projection to zero, in the file: that of its
/// attention or of its other mixer.
void cut_columns(const std::filesystem::path& model_dir, int64_t layer, bool attention,
                 int64_t first, int64_t last) {
  const auto path = model_dir / "model.safetensors";
  std::vector<std::pair<std::string, Tensor>> tensors;
  const SafetensorsFile file = SafetensorsFile::open(path);
  int cut = 0;
  for (const std::string& name : file.names()) {
    Tensor tensor = file.tensor(name).clone();
    const bool of_layer = name.find("layers." + std::to_string(layer) + ".") != std::string::npos;
    if (of_layer && name.ends_with(attention ? "o_proj.weight" : "out_proj.weight")) {
      tensor.slice(1, first, last + 1).zero_();
      ++cut;
    }
    tensors.emplace_back(name, tensor);
  }
  ASSERT_EQ(cut, 1);
  save_safetensors(path, tensors);
}

/// What `inspect` says of the mixer that a head is of.
Json mixer_of(const Json& layer, int64_t head) {
  if (!layer.contains("mixers")) {
    Json only = layer;
    only["first_head"] = 0;
    return only;
  }
  const Json& both = layer["mixers"];
  return both[head < both[1]["first_head"].get<int64_t>() ? 0 : 1];
}

class Find : public ::testing::TestWithParam<const char*> {};

TEST_P(Find, EqualsAPlainLoopOverWeightsWithAHeadCutOut) {
  const TempDir dir;
  const auto model = model_with_words(dir, GetParam());
  const std::string task = "jsonl:" + word_task(dir, kExamples).string();
  const auto out = dir.path() / "out";
  const Called called = headlens({"find", model.string(), "--task", task, "--out", out.string(),
                                  "--groups", "4", "--keep-groups", "--quiet"});
  ASSERT_EQ(called.status, 0) << called.err;
  EXPECT_EQ(called.err, "");
  const Json scores = Json::parse(testing::read_file(out / "scores.json"));
  EXPECT_EQ(scores["schema"], "headlens.scores/1");
  const Answers base = plain_loop(model);
  EXPECT_NEAR(scores["base"]["accuracy"], base.accuracy, 1e-9);
  EXPECT_NEAR(scores["base"]["mean_logprob"], base.mean_logprob, kTolerance);
  const Json layers = headlens({"inspect", model.string(), "--json"}).json()["layers"];
  std::set<int64_t> seen;
  double largest = 0;
  for (const Json& head : scores["heads"]) {
    const int64_t layer = head["layer"];
    const int64_t first = head["head"];
    const int64_t last = head.contains("channels") ? head["channels"][1].get<int64_t>() : first;
    const Json mixer = mixer_of(layers[static_cast<size_t>(layer)], first);
    const int64_t width = mixer["d_head"], begin = mixer["first_head"];
    const bool attention = mixer["kind"] == "attention";
    EXPECT_EQ(head["kind"], mixer["kind"]);
    // Zamba2's attention is in one file entry for several layers.
    if (attention && GetParam() == std::string("zamba2")) continue;
    largest = std::max(largest, std::abs(head["logprob_drop"].get<double>()));
    // Two heads a mixer will do.
    if (!seen.insert(layer * 4 + attention * 2 + (first > begin)).second) continue;
    const auto copy = model_with_words(dir, GetParam());
    cut_columns(copy, layer, attention, (first - begin) * width, (last - begin + 1) * width - 1);
    const Answers cut = plain_loop(copy);
    model_with_words(dir, GetParam());
    EXPECT_NEAR(head["accuracy"], cut.accuracy, 1e-9) << head;
    EXPECT_NEAR(head["logprob_drop"], base.mean_logprob - cut.mean_logprob, kTolerance) << head;
    EXPECT_NEAR(head["accuracy_drop"], base.accuracy - cut.accuracy, 1e-9) << head;
  }
  EXPECT_GT(largest, 0.01);  // the cuts do something
}

INSTANTIATE_TEST_SUITE_P(Families, Find,
                         ::testing::Values("llama", "mamba", "falcon_mamba", "mamba2", "bamba",
                                           "llamba", "nemotron_h", "falcon_h1", "zamba2"),
                         [](const auto& info) { return std::string(info.param); });

TEST(FindOutputs, WritesFourFilesAndPrintsTheTable) {
  const TempDir dir;
  const auto model = model_with_words(dir, "bamba");
  const std::string task = "jsonl:" + word_task(dir).string();
  const auto out = dir.path() / "a" / "b";
  const std::vector<std::string> words = {"find", model.string(), "--task",
                                          task,   "--out",        out.string()};
  const Called called = headlens(words);
  ASSERT_EQ(called.status, 0) << called.err;
  EXPECT_NE(called.out.find("report: " + (out / "report.html").string() + "\n"), std::string::npos);
  EXPECT_EQ(called.err.find("heads: "), std::string::npos) << called.err;  // stderr is a file
  EXPECT_EQ(called.err.find('\x1b'), std::string::npos);
  const std::string csv = testing::read_file(out / "scores.csv");
  const Json scores = Json::parse(testing::read_file(out / "scores.json"));
  EXPECT_EQ(static_cast<size_t>(std::count(csv.begin(), csv.end(), '\n')),
            scores["heads"].size() + 1);
  EXPECT_GT(std::filesystem::file_size(out / "report.html"), 10000u);
  EXPECT_EQ(Json::parse(testing::read_file(out / "maps.json"))["schema"], "headlens.maps/1");
  std::vector<std::string> as_json = words;
  as_json.emplace_back("--json");
  const Json printed = headlens(as_json).json();
  EXPECT_EQ(printed["heads"], scores["heads"]);
  EXPECT_EQ(printed["manifest"]["seed"], 0);
}

// The manifest says what scripts/certify found, and of which weights.
TEST(FindOutputs, NamesTheCertificate) {
  const TempDir dir;
  const auto model = model_with_words(dir, "llama");
  const std::string fingerprint =
      headlens({"inspect", model.string(), "--json"}).json()["fingerprint"];
  const auto certificate_in_manifest = [&](const std::string& text) {
    std::ofstream(model / "headlens_certificate.json") << text;
    const Json printed =
        headlens({"find", model.string(), "--task", "jsonl:" + word_task(dir).string(), "--out",
                  (dir.path() / "out").string(), "--heads", "0.0", "--json"})
            .json();
    return printed["manifest"].value("certificate", std::string("none"));
  };
  Json certificate = {{"verdict", "certified"},
                      {"made", "2026-01-02T03:04:05+00:00"},
                      {"dtypes", {"float32", "bfloat16"}},
                      {"versions", {{"transformers", "5.17.0"}}},
                      {"checkpoint", {{"fingerprint", fingerprint}}}};
  EXPECT_EQ(
      certificate_in_manifest(certificate.dump()),
      "certified in float32, bfloat16 against transformers 5.17.0, 2026-01-02T03:04:05+00:00");
  certificate["checkpoint"]["fingerprint"] = "0123";
  EXPECT_EQ(certificate_in_manifest(certificate.dump()),
            "of another checkpoint (certified, 2026-01-02T03:04:05+00:00)");
  EXPECT_NE(certificate_in_manifest("{").find("not readable: ["), std::string::npos);
  std::filesystem::remove(model / "headlens_certificate.json");
  const Json without =
      headlens({"find", model.string(), "--task", "jsonl:" + word_task(dir).string(), "--out",
                (dir.path() / "out").string(), "--heads", "0.0", "--json"})
          .json();
  EXPECT_FALSE(without["manifest"].contains("certificate"));
}

// Heads 6 and up are attention's, those before Mamba-2's; a range may go over both.
TEST(FindOutputs, AblateCutsHeadsOfTwoMixers) {
  const TempDir dir;
  const auto model = model_with_words(dir, "falcon_h1");
  const std::string task = "jsonl:" + word_task(dir).string(), out = (dir.path() / "out").string();
  const std::vector<std::string> on_task = {model.string(), "--task", task, "--json", "--quiet"};
  const auto call = [&](std::vector<std::string> words, const std::vector<std::string>& more) {
    words.insert(words.end(), on_task.begin(), on_task.end());
    words.insert(words.end(), more.begin(), more.end());
    const Called called = headlens(words);
    EXPECT_EQ(called.status, 0) << called.err;
    return called.json();
  };
  const Json scores = call({"find"}, {"--out", out, "--heads", "1.5-6"});
  ASSERT_EQ(scores["heads"].size(), 2u);
  for (const Json& head : scores["heads"]) {
    const std::string name = "1." + head["head"].dump();
    const Json ablated = call({"ablate"}, {"--heads", name});
    EXPECT_NEAR(ablated["logprob_drop"], head["logprob_drop"], kTolerance) << name;
    EXPECT_EQ(head["kind"], name == "1.6" ? "attention" : "mamba2");
  }
  const Json kept = call({"ablate"}, {"--heads", "1.5-6", "--keep"});
  const Json others = call({"ablate"}, {"--heads", "1.0-4,1.7-9"});
  EXPECT_EQ(kept["ablated"], others["ablated"]);
  EXPECT_NE(kept["ablated"], call({"ablate"}, {"--heads", "1.5-6"})["ablated"]);
  EXPECT_NEAR(call({"eval"}, {})["mean_logprob"], kept["base"]["mean_logprob"], kTolerance);
}

// What was only estimated has no exact figure; with --exact everything has.
TEST(FindOutputs, ScreensAndConfirms) {
  const TempDir dir;
  const auto model = model_with_words(dir, "llama");
  const std::string task = "jsonl:" + word_task(dir).string(), out = (dir.path() / "out").string();
  const std::vector<std::string> words = {"find", model.string(), "--task", task, "--out",
                                          out,    "--json",       "--quiet"};
  const auto find = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more.begin(), more.end());
    const Called called = headlens(all);
    EXPECT_EQ(called.status, 0) << called.err;
    return called.json();
  };
  const Json exact = find({}), screened = find({"--screen=2"}),
             both = find({"--screen=25%", "--exact"});
  EXPECT_FALSE(exact.contains("screen"));
  EXPECT_EQ(screened["screen"]["ablated"], 2);
  EXPECT_EQ(screened["screen"]["shortlist"], 4);
  EXPECT_FALSE(screened["screen"].contains("missed"));
  ASSERT_EQ(screened["heads"].size(), exact["heads"].size());
  for (size_t i = 0; i < exact["heads"].size(); ++i) {
    const Json& head = screened["heads"][i];
    EXPECT_EQ(head.contains("screen_exact"), head["screen_place"] <= 4);
    if (head.contains("screen_exact")) {
      EXPECT_EQ(head["screen_exact"]["examples"], screened["screen"]["shortlist_examples"]);
    }
    const bool confirmed = head["screen_place"] <= 2;
    EXPECT_EQ(head.contains("accuracy_drop"), confirmed) << head;
    EXPECT_EQ(head.contains("entropy"), confirmed) << head;
    if (confirmed) {
      EXPECT_NEAR(head["logprob_drop"], exact["heads"][i]["logprob_drop"], kTolerance);
    }
    EXPECT_NEAR(both["heads"][i]["logprob_drop"], exact["heads"][i]["logprob_drop"], kTolerance);
  }
  EXPECT_TRUE(both["screen"].contains("missed"));
  EXPECT_TRUE(find({"--sequential", "0.1"}).contains("base"));
  std::vector<std::string> wrong = words;
  wrong.emplace_back("--screen=half");
  const Called refused = headlens(wrong);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("[find] --screen, expected a number of heads or a percentage"),
            std::string::npos);
}

TEST(FindOutputs, HeadsNamedAreScoredOneByOne) {
  const TempDir dir;
  const std::string task = "jsonl:" + word_task(dir).string(), out = (dir.path() / "out").string();
  const auto find = [&](const char* family, std::vector<std::string> more) {
    const auto model = model_with_words(dir, family);
    more.insert(more.begin(), {"find", model.string(), "--task", task, "--out", out, "--json"});
    return headlens(more).json()["heads"];
  };
  const Json all = find("mamba2", {}), chosen = find("mamba2", {"--heads", "1.2-3,0.1"});
  ASSERT_EQ(chosen.size(), 3u);
  for (const Json& head : chosen) {
    const auto same = std::find_if(all.begin(), all.end(), [&](const Json& h) {
      return h["layer"] == head["layer"] && h["head"] == head["head"];
    });
    ASSERT_NE(same, all.end());
    EXPECT_EQ(head["accuracy"], (*same)["accuracy"]);
    EXPECT_NEAR(head["logprob_drop"], (*same)["logprob_drop"], kTolerance);
  }
  const Json group = find("mamba", {"--heads", "0.3-10", "--keep-groups"});
  ASSERT_EQ(group.size(), 1u);
  EXPECT_EQ(group[0]["channels"], Json({3, 10}));
}

TEST(Ablate, OneHeadGivesWhatFindSays) {
  const TempDir dir;
  const auto model = model_with_words(dir, "mamba2");
  const std::string task = "jsonl:" + word_task(dir).string();
  for (const std::string placement : {"post_norm", "pre_norm"}) {
    const Json scores =
        headlens({"find", model.string(), "--task", task, "--out", (dir.path() / "out").string(),
                  "--placement", placement, "--json"})
            .json();
    const Json& head = scores["heads"][5];
    const std::string name = std::to_string(head["layer"].get<int64_t>()) + "." +
                             std::to_string(head["head"].get<int64_t>());
    const Json alone = headlens({"ablate", model.string(), "--task", task, "--heads", name,
                                 "--placement", placement, "--json"})
                           .json();
    EXPECT_NEAR(alone["ablated"]["accuracy"], head["accuracy"], 1e-9);
    EXPECT_NEAR(alone["logprob_drop"], head["logprob_drop"], kTolerance);
  }
}

TEST(Ablate, KeepingAHeadCutsTheOthersOfItsLayer) {
  const TempDir dir;
  const auto model = model_with_words(dir, "llama");
  const std::string task = "jsonl:" + word_task(dir).string();
  const auto ablate = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"ablate", model.string(), "--task", task, "--json", "--heads"});
    return headlens(more).json()["ablated"];
  };
  EXPECT_EQ(ablate({"1.2", "--keep"}), ablate({"1.0,1.1,1.3"}));
  EXPECT_NE(ablate({"1.2", "--keep"}), ablate({"1.2"}));
}

}  // namespace
}  // namespace headlens
