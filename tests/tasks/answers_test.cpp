// headlens/tests: answers read out of completions, against what the harness's filters answer.
#include "tasks/answers.h"

#include <gtest/gtest.h>

#include <string>

#include "headlens/tasks/generative.h"

namespace headlens {
namespace {

/// Random texts of the pieces that matter, and what lm-eval 0.4.9's RegexFilter (and re.sub, for
/// the last) makes of them.
TEST(Answers, AreThoseOfTheHarness) {
  struct Row {
    std::string (*read)(std::string_view);
    const char* text;
    const char* answer;
  };
  const Row rows[] = {
      {gsm8k_strict, "#### #### 12$\n#### #### ", "12"},
      {gsm8k_strict, "-##### ,Q(A)", ","},
      {gsm8k_strict, "#### 12", "12"},
      {gsm8k_strict, "#### #### #### #### #### 4.5.the answer is ", "4.5."},
      {gsm8k_strict, "#### \n #### 4.5.124.5.", "4.5.124.5."},
      {gsm8k_strict, "the answer is \nthe answer is é--#### .é", "."},
      {gsm8k_strict, "\\##### 1,000-é", "1,000"},
      {gsm8k_strict, "-x#### #### 1,000-#### #### \\", "1,000"},
      {gsm8k_strict, "-The answer is #### #### 3", "3"},
      {gsm8k_strict, "#### ,-", ","},
      {gsm8k_strict, "3So 1,000\\", "[invalid]"},
      {gsm8k_strict, "4.5.", "[invalid]"},
      {gsm8k_cot_strict, "Truethe answer is 4.5.#### #### The answer is 12\"", "12"},
      {gsm8k_cot_strict, "\\\\The answer is 1,000#### the answer is $", "1,000"},
      {gsm8k_cot_strict, "éThe answer is 12", "1"},
      {gsm8k_cot_strict, "Q12,Q--The answer is ,The answer is ", ","},
      {gsm8k_cot_strict, "The answer is 4.5.12", "4.5.1"},
      {gsm8k_cot_strict, "##### $Qthe answer is éThe answer is 1,000", "1,00"},
      {gsm8k_cot_strict, "\\x.$The answer is 4.5.the answer is ", "4.5."},
      {gsm8k_cot_strict, "The answer is 1,000,--So \n3", "1,000,"},
      {gsm8k_cot_strict, "\\So (A)1,000The answer is 4.5.", "4.5"},
      {gsm8k_cot_strict, "(A)4.5.the answer is 4.5.True ", "[invalid]"},
      {gsm8k_cot_strict, "12 ", "[invalid]"},
      {gsm8k_flexible, "3.", "3."},
      {gsm8k_flexible, "--é  3####  ", "3"},
      {gsm8k_flexible, "#### #### #### #### \u00a0The answer is 1,000#### \\", "1,000"},
      {gsm8k_flexible, "\né#### 3 ", "3"},
      {gsm8k_flexible, "--(A)So \n4.5. $", "4.5."},
      {gsm8k_flexible, "Q3", "3"},
      {gsm8k_flexible, "(A)-\n1,00012#### ", "1,00012"},
      {gsm8k_flexible, "\n-1,000(A)the answer is 3", "3"},
      {gsm8k_flexible, "\\Q12So ", "12"},
      {gsm8k_flexible, "The answer is #### 3", "3"},
      {gsm8k_flexible, " ééSo --", "[invalid]"},
      {gsm8k_flexible, "The answer is #### the answer is é", "[invalid]"},
      {gsm8k_normal, "So The answer is é", "so the answer is é"},
      {gsm8k_normal, "\u00a0(A)-,\u00a0#### ", ""},
      {gsm8k_normal, "1,000Truex", "1000truex"},
      {gsm8k_normal, "3 \\4.5.,$1,000", "3 \\4.5.1000"},
      {gsm8k_normal, "  ", "  "},
      {gsm8k_normal, "-3\n", "-3\n"},
      {gsm8k_normal, "12#### #### ", ""},
      {gsm8k_normal, "$\n.(A)\\\"##### ", ""},
      {gsm8k_normal, "Q\"---$12#### #### 3", "3"},
      {gsm8k_normal, "-The answer is ##### #####  #### ,", ""},
  };
  for (const Row& row : rows) EXPECT_EQ(row.read(row.text), row.answer) << row.text;
}

TEST(Answers, OfGsm8k) {
  EXPECT_EQ(gsm8k_strict("so 6.\n#### 1,234\n"), "1,234");
  EXPECT_EQ(gsm8k_cot_strict("The answer is 18."), "18");
  EXPECT_EQ(gsm8k_cot_strict("The answer is 18"), "1");  // the pattern wants one more character
  EXPECT_EQ(gsm8k_flexible("5 apples at $2.50 make $12.50."), "$12.50.");
  EXPECT_EQ(gsm8k_flexible("none"), kNoAnswer);
  EXPECT_EQ(gsm8k_normal("1 + 1 = 2\n#### 1,050"), "1050");
  EXPECT_EQ(gsm8k_normal("$12.50."), "12.50");
}

}  // namespace
}  // namespace headlens
