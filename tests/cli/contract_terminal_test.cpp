// headlens/tests: what every command promises a terminal and a script.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <regex>
#include <set>

#include "cli/command_tools.h"
#include "cli/completions.h"
#include "cli/examples.h"

namespace headlens {
namespace {

using testing::Called;
using testing::Json;
using testing::model_with_words;
using testing::TempDir;
using testing::word_task;
using Words = std::vector<std::string>;

/// As the command itself lists them.
Words command_names() {
  const std::string said = testing::headlens({}).err;
  const std::string begin = "expected one of ";
  std::string list = said.substr(said.find(begin) + begin.size());
  list = list.substr(0, list.find(", got"));
  Words names;
  std::istringstream in(std::regex_replace(list, std::regex(","), ""));
  for (std::string name; in >> name;) names.push_back(name);
  EXPECT_GE(names.size(), 20U);
  return names;
}

class Terminal : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (dir_.path() / name).string(); }

  /// One call of every command that runs on the words of the test's model.
  std::vector<Words> calls() const {
    const std::string two = model_with_words(dir_, "mamba2").string();
    testing::headlens({"run", model_, "--text", "w1 w2", "--record", "logits", "--out",
                       path("golden.safetensors")});
    testing::headlens({"scores", model_, "--out", path("heads.json")});
    return {{"inspect", model_},
            {"inspect", "zoo:list"},
            {"tokenize", model_, "--text", "w1 w2", "--text", "w3"},
            {"tokenize", model_, "--decode", "1,2"},
            {"run", model_, "--text", "w1 w2", "--record", "logits", "--out", path("r.npz")},
            {"verify", model_, "--golden", path("golden.safetensors")},
            {"map", model_, "--text", "w1 w2 w3", "--heads", "0.0,1.2"},
            {"map", model_, "--text", "w1 w2 w3", "--heads", "0.0", "--out", path("m.npz")},
            {"task", "kv:pairs=3,n=2"},
            {"eval", model_, "--task", task_},
            {"find", model_, "--task", task_, "--out", path("found")},
            {"ablate", model_, "--task", task_, "--heads", "0.0"},
            {"attribute", model_, "--task", task_, "--top", "100"},
            {"circuit", "zoo:transformer", "--task", "mcq:options=4,n=16", "--heads", "3.0,3.1,2.2",
             "--candidates", "2", "--minimal", "--pairs"},
            {"patch", "zoo:transformer", "--task", "mcq:options=4,n=16", "--site", "z",
             "--positions", "last"},
            {"prune", model_, "--task", task_, "--threshold", "0"},
            {"generate", model_, "--text", "w1 w2", "--max-new-tokens", "3"},
            {"graft", model_, "--from", model_, "--layer", "1", "--task", task_},
            {"compare", model_, two, "--task", task_, "--no-search", "--out", path("compared")},
            {"scores", model_},
            {"reproduce", "C2", "--models", model_, "--knowledge", task_},
            {"export", path("heads.json"), "--out", path("heads.npz")},
            {"completion", "bash"}};
  }

  TempDir dir_;
  std::string model_ = model_with_words(dir_, "llama").string();
  std::string task_ = "jsonl:" + word_task(dir_, 24).string();
};

TEST_F(Terminal, JsonEverywhereIsOneDocument) {
  std::set<std::string> tried;
  for (Words words : calls()) {
    tried.insert(words.front());
    words.emplace_back("--json");
    words.insert(words.end(), {"--color", "always"});
    const Called called = testing::headlens(words);
    EXPECT_EQ(called.status, 0) << words.front() << ": " << called.err;
    EXPECT_TRUE(Json::accept(called.out)) << words.front() << ": " << called.out.substr(0, 200);
    EXPECT_EQ(called.out.find('\x1b'), std::string::npos) << words.front();
  }
  for (const std::string& name : command_names()) EXPECT_TRUE(tried.contains(name)) << name;
}

/// Every number of the document.
void add_numbers(const Json& json, std::vector<double>& numbers) {
  if (json.is_number()) numbers.push_back(json.get<double>());
  if (json.is_structured()) {
    for (const Json& inner : json) add_numbers(inner, numbers);
  }
}

/// Whether some number is `word` when it is rounded as `word` is.
bool among(const std::string& word, const std::vector<double>& numbers) {
  const size_t dot = word.find('.');
  const double half = 0.5000001 * std::pow(10, -static_cast<double>(word.size() - dot - 1));
  const double value = std::stod(word);
  return std::any_of(numbers.begin(), numbers.end(),
                     [&](double n) { return std::abs(n - value) <= half; });
}

TEST_F(Terminal, NoTableShowsANumberThatTheJsonHasNot) {
  static const std::regex fraction(R"((^|[ \[(+])(-?\d+\.\d{3,})(?=[\] ,)\n]))");
  size_t looked_at = 0;
  for (const Words& words : calls()) {
    const Called text = testing::headlens(words);
    Words with_json = words;
    with_json.emplace_back("--json");
    std::vector<double> numbers;
    add_numbers(testing::headlens(with_json).json(), numbers);
    for (std::sregex_iterator at(text.out.begin(), text.out.end(), fraction), end; at != end;
         ++at) {
      EXPECT_TRUE(among((*at)[2], numbers)) << words.front() << " shows " << (*at)[2] << "\n"
                                            << text.out;
      ++looked_at;
    }
  }
  EXPECT_GT(looked_at, 150U);
}

TEST_F(Terminal, ColoursOnlyOnRequestHere) {
  const Words eval = {"find", model_, "--task", task_, "--out", path("f")};
  EXPECT_EQ(testing::headlens(eval).out.find('\x1b'), std::string::npos);
  Words always = eval;
  always.insert(always.end(), {"--color", "always"});
  EXPECT_NE(testing::headlens(always).out.find('\x1b'), std::string::npos);
  Words wrong = eval;
  wrong.insert(wrong.end(), {"--color", "alway"});
  EXPECT_NE(testing::headlens(wrong).err.find(
                "--color, expected auto, always or never, got 'alway' (did you mean 'always'?)"),
            std::string::npos);
}

TEST_F(Terminal, EveryCommandHasExamplesAndItsHelpEndsWithThem) {
  for (const std::string& name : command_names()) {
    const std::string help = testing::headlens({name, "--help"}).out;
    EXPECT_FALSE(cli::examples_of(name).empty()) << name;
    EXPECT_NE(help.find(cli::examples_text(name)), std::string::npos) << name << "\n" << help;
    for (const std::string& line : cli::examples_of(name))
      EXPECT_TRUE(line.starts_with("headlens "));
  }
}

Words completed(Words words) {
  words.insert(words.begin(), "__complete");
  const Called called = testing::headlens(words);
  EXPECT_EQ(called.status, 0);
  Words found;
  std::istringstream in(called.out);
  for (std::string line; std::getline(in, line);) found.push_back(line);
  return found;
}

TEST_F(Terminal, CompletesCommandsFlagsModelsTasksAndSites) {
  EXPECT_EQ(completed({"fi"}), (Words{"find"}));
  EXPECT_EQ(completed({"eval", model_, "--ta"}), (Words{"--task"}));
  EXPECT_EQ(completed({"eval", "zoo:tr"}), (Words{"zoo:transformer"}));
  EXPECT_EQ(completed({"eval", model_, "--dtype", "f"}), (Words{"float32", "float16", "float64"}));
  EXPECT_EQ(completed({"eval", model_, "--task", "world-m"}), (Words{"world-mcq:"}));
  EXPECT_EQ(completed({"eval", model_, "--task", "kv:"}), (Words{"kv:pairs=", "kv:n="}));
  EXPECT_EQ(completed({"eval", model_, "--task", "kv:pairs=3,"}), (Words{"kv:pairs=3,n="}));
  EXPECT_EQ(completed({"run", model_, "--record", "blocks.*.attn.hook_pat"}),
            (Words{"blocks.*.attn.hook_pattern"}));
  EXPECT_EQ(completed({"run", model_, "--record", "blocks.2.attn.hook_pat"}),
            (Words{"blocks.2.attn.hook_pattern"}));
  EXPECT_EQ(completed({"completion", "z"}), (Words{"zsh"}));
  EXPECT_EQ(completed({"eval", model_, "--out", ""}), Words{});  // a file: the shell's own
  EXPECT_EQ(completed({"no-such", ""}), Words{});
  EXPECT_EQ(completed({"run", path("none"), "--record", ""}), Words{});
}

TEST_F(Terminal, ADryRunPlansAndWritesNothing) {
  const std::string out = path("planned");
  const Called called =
      testing::headlens({"find", model_, "--task", task_, "--out", out, "--dry-run", "--json"});
  ASSERT_EQ(called.status, 0) << called.err;
  EXPECT_FALSE(std::filesystem::exists(out));
  const Json plan = called.json();
  // 12 heads of 3 layers from their own layers on, and once without a cut: 4 (3 + 2 + 1) / 3 + 1.
  EXPECT_NEAR(plan["stages"][0]["forwards"], 9, 1e-9);
  EXPECT_GT(plan["seconds"], 0);
  EXPECT_GE(plan["most_seconds"], plan["seconds"]);
  EXPECT_GT(plan["memory_bytes"], 0);
  EXPECT_EQ(plan["calibration"][0]["prompts"], 24);
  EXPECT_EQ(testing::headlens({"eval", model_, "--task", "vk", "--dry-run"}).status, 2);
  EXPECT_EQ(testing::headlens({"eval", path("none"), "--task", task_, "--dry-run"}).status, 2);
}

}  // namespace
}  // namespace headlens
