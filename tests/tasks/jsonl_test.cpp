// headlens/tests: JSON Lines, and every way a line can be wrong.
#include "headlens/tasks/jsonl.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/tasks/kv_retrieval.h"
#include "headlens/tasks/task.h"
#include "tokenizers.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

const std::string kGood = R"({"prompt": "a b", "choices": [" x", " y"], "answer": 1})";

/// The message for `line` as the third of a file, without the folder.
std::string line_error(const std::string& line) {
  const TempDir dir;
  const auto file = dir.write("data.jsonl", kGood + "\n\n" + line + "\n");
  std::string message = error_message<TaskError>([&] { load_jsonl(file); });
  const std::string folder = dir.path().string() + "/";
  if (const size_t at = message.find(folder); at != std::string::npos) {
    message.erase(at, folder.size());
  }
  return message;
}

std::string with(const std::string& rest) {
  return R"({"prompt": "p", )" + rest + "}";
}

TEST(LoadJsonl, ReadsLinesAndSkipsBlankOnes) {
  const TempDir dir;
  const auto file = dir.write(
      "data.jsonl", "\xEF\xBB\xBF" + kGood + "\r\n  \n" +
                        R"({"prompt":"p","choices":["1","2"],"answer":0,"segments":null})" + "\n" +
                        R"({"prompt":"\u00e9","choices":["1","2","3"],"answer":0,)" +
                        R"("segments":[[0,0],[1,3]],"subject":"x"})");
  const auto examples = load_jsonl(file);
  ASSERT_EQ(examples.size(), 3u);
  EXPECT_TRUE(examples[1].segments.empty());
  EXPECT_EQ(examples[0].prompt, "a b");
  EXPECT_EQ(examples[0].choices, (std::vector<std::string>{" x", " y"}));
  EXPECT_EQ(examples[0].answer, 1);
  EXPECT_TRUE(examples[0].segments.empty());
  EXPECT_EQ(examples[2].prompt, "\xC3\xA9");
  EXPECT_EQ(examples[2].segments, (std::vector<Segment>{{0, 0}, {1, 3}}));
  EXPECT_EQ(examples[2].source, file.string() + " line 4");
}

TEST(LoadJsonl, NamesTheMissingKey) {
  EXPECT_EQ(line_error(with(R"("choices": ["x", "y"])")),
            "[task] data.jsonl line 3: 'answer', expected in the line, got none");
  EXPECT_EQ(line_error(with(R"("choices": ["x", "y"], "awnser": 1)")),
            "[task] data.jsonl line 3: 'answer', expected in the line, got 'awnser'");
  EXPECT_EQ(line_error(with(R"("answer": 1)")),
            "[task] data.jsonl line 3: 'choices', expected in the line, got none");
  EXPECT_EQ(line_error("{}"), "[task] data.jsonl line 3: 'prompt', expected in the line, got none");
}

TEST(LoadJsonl, ChecksTheAnswer) {
  EXPECT_EQ(line_error(with(R"("choices": ["x", "y"], "answer": 2)")),
            "[task] data.jsonl line 3: 'answer', expected 0 to 1, got 2");
  EXPECT_EQ(line_error(with(R"("choices": ["x", "y"], "answer": -1)")),
            "[task] data.jsonl line 3: 'answer', expected 0 to 1, got -1");
  EXPECT_EQ(line_error(with(R"("choices": ["x", "y"], "answer": "x")")),
            "[task] data.jsonl line 3: 'answer', expected an integer, got string \"x\"");
  EXPECT_EQ(line_error(with(R"("choices": ["x", "y"], "answer": 18446744073709551615)")),
            "[task] data.jsonl line 3: 'answer', expected an integer, got integer "
            "18446744073709551615");
}

TEST(LoadJsonl, ChecksPromptAndChoices) {
  EXPECT_EQ(line_error(with(R"("choices": ["x"], "answer": 0)")),
            "[task] data.jsonl line 3: 'choices', expected at least 2, got 1");
  EXPECT_EQ(line_error(with(R"("choices": ["x", 3], "answer": 0)")),
            "[task] data.jsonl line 3: 'choices', expected strings, got array [\"x\",3]");
  EXPECT_EQ(line_error(with(R"("choices": "xy", "answer": 0)")),
            "[task] data.jsonl line 3: 'choices', expected an array, got string \"xy\"");
  EXPECT_EQ(line_error(R"({"prompt": "", "choices": ["x", "y"], "answer": 0})"),
            "[task] data.jsonl line 3: 'prompt', expected text, got none");
  EXPECT_EQ(line_error(R"({"prompt": null, "choices": ["x", "y"], "answer": 0})"),
            "[task] data.jsonl line 3: 'prompt', expected a string, got null");
}

TEST(LoadJsonl, ChecksSegments) {
  const std::string start = R"("choices": ["x", "y"], "answer": 0, )";
  EXPECT_EQ(line_error(with(start + R"("segments": [[2, 1]])")),
            "[task] data.jsonl line 3: 'segments', expected 0 <= start <= end, got [2, 1]");
  EXPECT_EQ(line_error(with(start + R"("segments": [[-1, 1]])")),
            "[task] data.jsonl line 3: 'segments', expected 0 <= start <= end, got [-1, 1]");
  EXPECT_EQ(line_error(with(start + R"("segments": [[1]])")),
            "[task] data.jsonl line 3: 'segments', expected [start, end] pairs, got array [1]");
  EXPECT_EQ(line_error(with(start + R"("segments": [[0, 1.5]])")),
            "[task] data.jsonl line 3: 'segments', expected an integer, got number 1.5");
  EXPECT_EQ(line_error(with(start + R"("segments": 1)")),
            "[task] data.jsonl line 3: 'segments', expected an array, got integer 1");
  EXPECT_EQ(line_error(with(start + R"("segment": [[0, 1]])")),
            "[task] data.jsonl line 3: 'segments', expected in the line, got 'segment'");
}

TEST(LoadJsonl, ReadsWhatChoicesHaveBeforeThemAndTheirLengths) {
  const TempDir dir;
  const std::string start = R"("choices": ["x", "y"], "answer": 0, )";
  const auto file =
      dir.write("a.jsonl", with(start + R"("choice_leads": ["a", "b"], "choice_lengths": [3, 4])"));
  const Example read = load_jsonl(file)[0];
  EXPECT_EQ(read.leads, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(read.lengths, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(line_error(with(start + R"("choice_leads": ["a"])")),
            "[task] data.jsonl line 3: 'choice_leads', expected one a choice, 2, got 1");
  EXPECT_EQ(line_error(with(start + R"("choice_lengths": [1, 0])")),
            "[task] data.jsonl line 3: 'choice_lengths', expected at least 1, got 0");
  EXPECT_EQ(line_error(with(start + R"("choice_lenghts": [1, 1])")),
            "[task] data.jsonl line 3: 'choice_lengths', expected in the line, got "
            "'choice_lenghts'");
}

TEST(LoadJsonl, RefusesWhatIsNoJsonObject) {
  EXPECT_EQ(line_error("[1]"),
            "[task] data.jsonl line 3: value, expected a JSON object, got array [1]");
  EXPECT_EQ(
      line_error("{\"prompt\": ").find("[task] data.jsonl line 3: text, expected valid JSON, got "),
      0u);
  EXPECT_EQ(line_error("{\"prompt\": \"\xFF\"}")
                .find("[task] data.jsonl line 3: text, expected valid JSON, got "),
            0u);
  EXPECT_EQ(line_error(with(R"("prompt": "q")")),
            "[task] data.jsonl line 3: text, expected valid JSON, got duplicate key 'prompt'");
}

TEST(LoadJsonl, RefusesEmptyAndAbsentFiles) {
  const TempDir dir;
  const auto empty = dir.write("empty.jsonl", "\n \n");
  EXPECT_EQ(error_message<TaskError>([&] { load_jsonl(empty); }),
            "[task] " + empty.string() + ": examples, expected at least one, got none");
  const auto absent = dir.path() / "absent.jsonl";
  EXPECT_EQ(error_message<TaskError>([&] { load_jsonl(absent); }),
            "[task] " + absent.string() + ": file, expected a readable one, got none");
  EXPECT_EQ(error_message<TaskError>([&] { load_jsonl(dir.path()); }),
            "[task] " + dir.path().string() + ": file, expected a readable one, got none");
}

TEST(SaveJsonl, ComesBackAsTokens) {
  const TempDir dir;
  const Tokenizer tokenizer = testing::word_tokenizer();
  const auto made = make_kv_retrieval({6, 3}, 8);
  save_jsonl(made, tokenizer, dir.path() / "kv.jsonl");
  const auto read = load_jsonl(dir.path() / "kv.jsonl");
  ASSERT_EQ(read.size(), 3u);
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].prompt, made[i].prompt);
    EXPECT_EQ(read[i].choices, made[i].choices);
    EXPECT_EQ(read[i].answer, made[i].answer);
    EXPECT_EQ(read[i].segments, tokenize(made[i], tokenizer).segments);
  }
  const auto nowhere = dir.path() / "no" / "file";
  EXPECT_EQ(error_message<Error>([&] {
              save_jsonl(made, tokenizer, nowhere);
            }).find("[" + nowhere.string() + "] file, expected to be created, got "),
            0u);
}

}  // namespace
}  // namespace headlens
