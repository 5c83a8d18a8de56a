// headlens/tests: `compare` on models of words and on the bundled models.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
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

class CompareCommand : public ::testing::Test {
 protected:
  Called run(const std::string& a, const std::string& b, const std::string& task,
             std::vector<std::string> more) const {
    std::vector<std::string> words = {"compare", a, b, "--task", task, "--quiet", "--out", out()};
    words.insert(words.end(), more.begin(), more.end());
    return headlens(words);
  }
  std::string words(const std::string& family) const {
    return model_with_words(dir_, family).string();
  }
  std::string out() const { return (dir_.path() / "compared").string(); }
  std::string written(const char* file) const { return read_file(dir_.path() / "compared" / file); }

  TempDir dir_;
  std::string task_ = "jsonl:" + word_task(dir_, 8).string();
};

const Json& difference(const Json& found, const std::string& summary, const std::string& figure) {
  const Json& all = found["differences"];
  const auto at = std::find_if(all.begin(), all.end(), [&](const Json& d) {
    return d["summary"] == summary && d["figure"] == figure;
  });
  EXPECT_NE(at, all.end()) << summary << " " << figure;
  return *at;
}

TEST_F(CompareCommand, AModelAgainstItselfDiffersInNothing) {
  const std::string model = words("jamba");
  const Called called =
      run(model, model, task_, {"--json", "--heads-a", "0.0,1.1", "--heads-b", "0.0,1.1"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = called.json();
  EXPECT_EQ(found, Json::parse(written("compare.json")));
  EXPECT_EQ(found["schema"], "headlens.compare/1");
  EXPECT_EQ(found["a"]["heads"], found["b"]["heads"]);
  for (const Json& d : found["differences"]) {
    EXPECT_EQ(d["difference"], 0.0);
    EXPECT_EQ(d["difference_ci"], Json({0.0, 0.0}));
  }
  difference(found, "gather_head", "gather");
  difference(found, "depth_1", "entropy_norm");
}

/// The mean of a column of compare.csv over the lines of one model.
double csv_mean(const std::string& csv, const std::string& model, size_t column) {
  std::stringstream lines(csv);
  double sum = 0, count = 0;
  for (std::string line; std::getline(lines, line);) {
    std::stringstream fields(line);
    std::vector<std::string> row;
    for (std::string field; std::getline(fields, field, ',');) row.push_back(field);
    if (row[0] != model || row.at(column).empty()) continue;
    sum += std::stod(row[column]);
    ++count;
  }
  return sum / count;
}

TEST_F(CompareCommand, TheFilesSayTheSame) {
  const Called called =
      run(words("llama"), words("falcon_mamba"), task_, {"--no-search", "--groups", "2"});
  ASSERT_EQ(called.status, 0) << called.err;
  const Json found = Json::parse(written("compare.json"));
  EXPECT_FALSE(found["a"].contains("gather"));
  EXPECT_EQ(found["b"]["heads"][0]["channels"][0], 0);
  const std::string csv = written("compare.csv"), page = written("compare.html");
  const std::vector<std::string> figures = {"entropy_norm", "effective", "peak", "gather",
                                            "aggregate"};
  for (size_t f = 0; f < figures.size(); ++f) {
    const Json& mean = difference(found, "mean", figures[f]);
    EXPECT_NEAR(mean["a"], csv_mean(csv, "a", 6 + f), 1e-9);
    EXPECT_NEAR(mean["b"], csv_mean(csv, "b", 6 + f), 1e-9);
  }
  EXPECT_EQ(page.find("http://www.w3.org/2000/svg"), page.rfind("http"));
  const std::string open = R"(<script id="data" type="application/json">)";
  const size_t begin = page.find(open) + open.size();
  EXPECT_EQ(Json::parse(page.substr(begin, page.find("</script", begin) - begin)), found);
  EXPECT_NE(called.out.find("A has no gather head"), std::string::npos);
}

TEST_F(CompareCommand, SaysWhatIsWrong) {
  const std::string llama = words("llama");
  const auto wrong = [&](const std::string& b, const std::vector<std::string>& more) {
    const Called called = run(llama, b, task_, more);
    EXPECT_EQ(called.status, 2);
    return called.err;
  };
  EXPECT_EQ(wrong(llama, {"--heads-a", "0.1"}),
            "headlens: error: [compare] --heads-a, expected two heads, GATHER,AGGREGATE, got 1\n");
  EXPECT_EQ(wrong(llama, {"--heads-a", "0.1,0.2", "--heads-b", "0.1,0.9"}),
            "headlens: error: [heads] 0.9, expected a head from 0 to 3 in layer 0, got 9\n");
  EXPECT_EQ(wrong("nowhere", {}),
            "headlens: error: [model] MODEL, expected a checkpoint directory, zoo:NAME or "
            "random:DIR, got "
            "'nowhere'\n");
}

/// The same words under other ids.
std::string renumbered_tokenizer() {
  Json document = Json::parse(testing::word_tokenizer());
  for (auto& [word, id] : document["model"]["vocab"].items()) id = 90 - id.get<int>();
  return document.dump();
}

TEST_F(CompareCommand, TokenizersMayDifferWhereSegmentsAreTexts) {
  // Other ids for the same words: token positions mean the same.
  const std::string other = dir_.write("other.json", renumbered_tokenizer()).string();
  const Called same =
      run(words("llama"), words("mamba2"), task_, {"--no-search", "--tokenizer-b", other});
  EXPECT_EQ(same.status, 0) << same.err;
  // Other tokens: positions do not.
  Json pieces = Json::parse(testing::word_tokenizer());
  pieces["model"]["vocab"] = {{"w", 1}, {"<unk>", 90}};
  for (int digit = 0; digit < 10; ++digit)
    pieces["model"]["vocab"][std::to_string(digit)] = digit + 2;
  pieces["pre_tokenizer"] = {{"type", "Split"},
                             {"pattern", {{"Regex", "[w0-9]"}}},
                             {"behavior", "Isolated"},
                             {"invert", false}};
  const std::string letters = dir_.write("letters.json", pieces.dump()).string();
  const Called called =
      run(words("llama"), words("mamba2"), task_, {"--no-search", "--tokenizer-b", letters});
  EXPECT_EQ(called.status, 1);
  EXPECT_NE(called.err.find("expected no segments as token positions, since the two models split "
                            "the prompts into other tokens"),
            std::string::npos)
      << called.err;
}

// docs/compare.md: which bundled model's maps are sharper is no matter of kind alone. Llamba's are
// smoother than attention's, as the study found, those of the other two sharper on the mean.
TEST_F(CompareCommand, TheBundledModelsDifferAsTheDocsSay) {
  struct Row {
    std::string model, heads;
    bool smoother;
  };
  for (const Row& row : {Row{"zoo:llamba", "0.0,3.2", true}, Row{"zoo:mamba2", "2.7,3.1", false},
                         Row{"zoo:falcon-mamba", "0.24,2.0-3", false}}) {
    SCOPED_TRACE(row.model);
    const Called called = run("zoo:transformer", row.model, "mcq:options=4,n=24",
                              {"--json", "--heads-a", "2.2,3.1", "--heads-b", row.heads});
    ASSERT_EQ(called.status, 0) << called.err;
    const Json found = called.json();
    const Json& mean = difference(found, "mean", "entropy_norm");
    EXPECT_EQ(mean["examples"], 24);
    EXPECT_EQ(mean["difference_ci"][1] < 0.0, row.smoother);
    EXPECT_EQ(mean["difference_ci"][0] > 0.0, !row.smoother);
    difference(found, "aggregate_head", "peak");
  }
}

}  // namespace
}  // namespace headlens
