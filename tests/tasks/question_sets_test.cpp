// headlens/tests: evaluation sets in their published layouts, prompts written out by hand.
#include "headlens/tasks/question_sets.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"
#include "tasks/question_docs.h"

namespace headlens {
namespace {

using testing::error_message;
using Texts = std::vector<std::string>;

class QuestionSets : public ::testing::Test {
 protected:
  std::vector<Example> load(QuestionSet set, const std::string& lines, int64_t shots = 0) {
    QuestionSetOptions options;
    options.file = dir_.write("set.jsonl", lines);
    options.shots = shots;
    options.examples = options.file;
    return load_question_set(set, options);
  }

  std::string error_of(QuestionSet set, const std::string& lines) {
    std::string message = error_message<Error>([&] { load(set, lines); });
    const std::string folder = dir_.path().string() + "/";
    for (size_t at; (at = message.find(folder)) != std::string::npos;) {
      message.erase(at, folder.size());
    }
    return message;
  }

  testing::TempDir dir_;
};

const std::string kHub =
    R"({"id":"1","question":"Q one?","choices":{"text":["a b","é"],"label":["1","2"]},"answerKey":"2"})"
    "\n";
const std::string kAi2 =
    R"({"id":"2","question":{"stem":"Q two? ","choices":[{"text":"x","label":"A"},)"
    R"({"text":"y","label":"B"},{"text":"z","label":"C"}]},"answerKey":"C"})"
    "\n";

TEST_F(QuestionSets, ArcInBothLayouts) {
  const auto read = load(QuestionSet::Arc, kHub + kAi2);
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].prompt, "Question: Q one?\nAnswer:");
  EXPECT_EQ(read[0].choices, (Texts{" a b", " é"}));
  EXPECT_EQ(read[0].lengths, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(read[0].answer, 1);
  EXPECT_EQ(read[1].prompt, "Question: Q two? \nAnswer:");
  EXPECT_EQ(read[1].choices.size(), 3u);
  EXPECT_EQ(read[1].answer, 2);
  EXPECT_TRUE(read[1].spans.empty());
}

TEST_F(QuestionSets, ExamplesComeFirstAndNeverTheQuestionItself) {
  const auto read = load(QuestionSet::Arc, kHub + kAi2, 1);
  EXPECT_EQ(read[0].prompt, "Question: Q two? \nAnswer: z\n\nQuestion: Q one?\nAnswer:");
  EXPECT_EQ(read[1].prompt, "Question: Q one?\nAnswer: é\n\nQuestion: Q two? \nAnswer:");
}

// The harness splits tokens before white space at the end of a context.
TEST_F(QuestionSets, OpenBookQaIsTheStemAloneAndItsLastSpaceGoesToTheChoices) {
  const auto read = load(QuestionSet::OpenBookQa, kAi2);
  EXPECT_EQ(read[0].prompt, "Q two?");
  EXPECT_EQ(read[0].choices, (Texts{"  x", "  y", "  z"}));
  EXPECT_EQ(read[0].lengths, (std::vector<int64_t>{1, 1, 1}));
  const auto hub =
      load(QuestionSet::OpenBookQa, R"({"question_stem":"S","choices":{"text":["a","b"],)"
                                    R"("label":["A","B"]},"answerKey":" A"})");
  EXPECT_EQ(hub[0].prompt, "S");
  EXPECT_EQ(hub[0].answer, 0);
}

TEST_F(QuestionSets, PiqaWithLabelsInTheLinesOrBesideThem) {
  const std::string line = R"({"goal":"G","sol1":"do","sol2":"don't")";
  const auto inside = load(QuestionSet::Piqa, line + R"(,"label":1})");
  EXPECT_EQ(inside[0].prompt, "Question: G\nAnswer:");
  EXPECT_EQ(inside[0].choices, (Texts{" do", " don't"}));
  EXPECT_EQ(inside[0].answer, 1);
  dir_.write("set-labels.lst", "0\n1\n");
  EXPECT_EQ(load(QuestionSet::Piqa, line + "}\n" + line + "}\n")[1].answer, 1);
  EXPECT_EQ(error_of(QuestionSet::Piqa, line + "}\n"),
            "[task] set-labels.lst: labels, expected 1, one a line of set.jsonl, got 2");
}

TEST_F(QuestionSets, HellaSwagCleansUp) {
  const auto read =
      load(QuestionSet::HellaSwag,
           R"({"activity_label":"Home","ctx_a":"[header] How to [title] Sit.","ctx_b":"the MAN",)"
           R"("endings":[" sits [x] down","a  b   c","d","e"],"label":"3"})");
  EXPECT_EQ(read[0].prompt, "Home: How to. Sit. The man");
  EXPECT_EQ(read[0].choices, (Texts{" sits down", " a b  c", " d", " e"}));
  EXPECT_EQ(read[0].answer, 3);
  EXPECT_EQ(hellaswag_text("[a\nb] [c] x] [y"), "[a\nb] x] [y");
  EXPECT_EQ(
      load(QuestionSet::HellaSwag, R"({"query":"A: b ","choices":["c","d"],"gold":1})")[0].choices,
      (Texts{"  c", "  d"}));
}

TEST_F(QuestionSets, WinograndeVariesTheContext) {
  const std::string lines =
      R"({"sentence":"Ann saw Bo so _ left. ","option1":"Ann","option2":"Bo","answer":"2"})"
      "\n"
      R"({"sentence":"The cup hit the jar and the _ broke.","option1":"cup","option2":"jar","answer":"1"})"
      "\n";
  const auto read = load(QuestionSet::Winogrande, lines, 1);
  EXPECT_EQ(read[1].prompt, "Ann saw Bo so Bo left.\n\nThe cup hit the jar and the ");
  EXPECT_EQ(read[1].leads, (Texts{"cup", "jar"}));
  EXPECT_EQ(read[1].choices, (Texts{" broke.", " broke."}));
  EXPECT_EQ(read[1].answer, 0);
  EXPECT_TRUE(read[1].lengths.empty());
}

TEST_F(QuestionSets, NamesFileLineAndKey) {
  EXPECT_EQ(error_of(QuestionSet::Arc, kHub + R"({"question":"q"})"),
            "[task] set.jsonl line 2: 'choices', expected in the line, got none");
  EXPECT_EQ(error_of(QuestionSet::Arc, R"({"question":"q","choices":{"text":["a","b"],)"
                                       R"("label":["A","B"]},"answerKey":"C"})"),
            "[task] set.jsonl line 1: 'answerKey', expected a label of its choices, got 'C'");
  EXPECT_EQ(error_of(QuestionSet::Arc, R"({"question":"q","choices":{"text":["a","b"],)"
                                       R"("label":["A"]},"answerKey":"A"})"),
            "[task] set.jsonl line 1 'choices': 'label', expected at least 2, got 1");
  EXPECT_EQ(error_of(QuestionSet::Winogrande, R"({"sentence":"no blank"})"),
            "[task] set.jsonl line 1: 'sentence', expected a blank '_' in it, got none");
  EXPECT_EQ(error_of(QuestionSet::HellaSwag, R"({"activity_label":"a","ctx_a":"b","ctx_b":"",)"
                                             R"("endings":["a","[x]"],"label":"1"})"),
            "[task] set.jsonl line 1: choice 1, expected text, got none");
  EXPECT_EQ(error_of(QuestionSet::Piqa, R"({"goal":"g","sol1":"a","sol2":"b"})"),
            "[task] set-labels.lst: file, expected a readable one, got none");
  EXPECT_EQ(error_of(QuestionSet::Piqa, R"({"goal":"g","sol1":"a","sol2":"b","label":2})"),
            "[task] set.jsonl line 1: 'label', expected 0 to 1, got 2");
  QuestionSetOptions few{dir_.write("set.jsonl", kHub), {}, 2, dir_.write("few.jsonl", kHub), 0};
  EXPECT_EQ(error_message<TaskError>([&] { load_question_set(QuestionSet::Arc, few); }),
            "[task] " + few.examples.string() + ": examples, expected 2 for 2 shots, got 1");
  few.examples.clear();
  EXPECT_EQ(error_message<UsageError>([&] { load_question_set(QuestionSet::Arc, few); }),
            "[task] examples, expected a file to take 2 shots from, got none");
}

}  // namespace
}  // namespace headlens
