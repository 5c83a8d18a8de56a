// headlens/tests: answers of BIG-Bench Hard, against what the harness's filters answer.
#include "tasks/bbh_answers.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "headlens/tasks/generative.h"

namespace headlens {
namespace {

/// Random texts of the pieces that matter, and what lm-eval 0.4.9's RegexFilter (and re.sub, for
/// the last) makes of them.
TEST(BbhAnswers, AreThoseOfTheHarness) {
  struct Row {
    std::string (*read)(std::string_view);
    const char* text;
    const char* answer;
  };
  const Row rows[] = {
      {bbh_cot_answer, "$\"the answer is 12So ", "12So"},
      {bbh_cot_answer, "the answer is \"the answer is ", "\"the answer is"},
      {bbh_cot_answer, "the answer is 3\n", ""},
      {bbh_cot_answer, "the answer is the answer is (A)1212So ", "the answer is (A)1212So"},
      {bbh_cot_answer, "#### $1,000So the answer is the answer is 12é", "the answer is 12"},
      {bbh_cot_answer, "$##### \\the answer is 1,000So \n", "1,000So"},
      {bbh_cot_answer, "\\$the answer is True#### the answer is ", "True#### the answer is"},
      {bbh_cot_answer, "the answer is .1,000,", ".1,000"},
      {bbh_cot_answer, "(A)$12##### the answer is x\u00a0The answer is ", "x\u00a0The answer is"},
      {bbh_cot_answer, "éSo the answer is ##### the answer is \n", "##### the answer is"},
      {bbh_cot_answer, "3", "[invalid]"},
      {bbh_cot_answer, "- 4.5.123", "[invalid]"},
      {bbh_normal, "the answer is \n\"éTrue#### \" ", "the answer is étrue####  "},
      {bbh_normal, "#### 4.5. .", "#### 4.5. "},
      {bbh_normal, "124.5.#### #### -é-True\\", "124.5.#### #### -é-true"},
      {bbh_normal, "the answer is ", "the answer is "},
      {bbh_normal, "\"1,000#### 12", "1000#### 12"},
      {bbh_normal, "\u00a0True#### #### 1,00012,", "\u00a0true#### #### 100012"},
      {bbh_normal, "$\n4.5.-$##### .-", "$4.5.-$##### .-"},
      {bbh_normal, "$(A)3\u00a0#####  ", "$(a)3\u00a0#####  "},
      {bbh_normal, " x(A)##### \u00a0So ", " x(a)##### \u00a0so "},
      {bbh_normal, ".,", "."},
  };
  for (const Row& row : rows) EXPECT_EQ(row.read(row.text), row.answer) << row.text;
}

/// tests/golden/make_answer_goldens.py: `flexible-extract` of every kind of task on random
/// questions and completions. Null: the harness itself ends with an error there.
TEST(BbhAnswers, OfEveryTaskAreThoseOfTheHarness) {
  std::ifstream file(std::string(HEADLENS_GOLDEN_DIR) + "/answers/bbh.jsonl");
  int64_t count = 0, found = 0;
  for (std::string line; std::getline(file, line); ++count) {
    const auto row = nlohmann::json::parse(line);
    const std::string expected =
        row["answer"].is_null() ? kNoAnswer : row["answer"].get<std::string>();
    EXPECT_EQ(bbh_flexible(row["task"], row["question"], row["text"].get<std::string>()), expected)
        << line;
    found += expected != kNoAnswer;
  }
  EXPECT_GE(count, 100);
  EXPECT_GE(found, count / 3);
}

TEST(BbhAnswers, InOneLineEach) {
  EXPECT_EQ(bbh_cot_answer("So the answer is (B).\nmore"), "(B)");
  EXPECT_EQ(bbh_cot_answer("the answer is \nthe answer is no."), "no");
  EXPECT_EQ(bbh_normal("Yes."), "yes");
  EXPECT_EQ(bbh_flexible("boolean_expressions", "", " Untrue, True or False"), "True");
  EXPECT_EQ(bbh_flexible("navigate", "", " Nothing: No"), "No");
  EXPECT_EQ(bbh_flexible("formal_fallacies", "", "it is invalid"), "invalid");
  EXPECT_EQ(bbh_flexible("object_counting", "", "I see -12 of 5"), "-12");
  EXPECT_EQ(bbh_flexible("object_counting", "", "I see twenty three"), "23");
  EXPECT_EQ(bbh_flexible("object_counting", "", "two million five thousand"), "2006005");
  EXPECT_EQ(bbh_flexible("object_counting", "", "two million, five thousand"),
            "7000");  // "million,"
  EXPECT_EQ(bbh_flexible("sports_understanding", "", "Not plausible"), "no");
  EXPECT_EQ(bbh_flexible("web_of_lies", "", "Ann tells the truth"), "yes");
  EXPECT_EQ(bbh_flexible("word_sorting", "List: b a", "a b, so b a"), "b a");
  EXPECT_EQ(bbh_flexible("dyck_languages", "", "so ] } done"), "] }");
  EXPECT_EQ(bbh_flexible("dyck_languages", "", "so it is ]"), "");  // the first space already
  const std::string question = "Which?\nOptions:\n(A) the oak\n(B) Elm-tree\n";
  EXPECT_EQ(bbh_flexible("date_understanding", question, "B) or (C) or (D)"), "(C)");
  EXPECT_EQ(bbh_flexible("snarks", question, "It is ELMTREE!"), "(B)");
  EXPECT_EQ(bbh_flexible("snarks", question, "Answer: A"), "(A)");
  EXPECT_EQ(bbh_flexible("snarks", question, "Answer: C"), kNoAnswer);
  EXPECT_EQ(bbh_flexible("snarks", question, "A"), kNoAnswer);
}

}  // namespace
}  // namespace headlens
