// headlens/tests: letter retrieval, prompts byte for byte.
#include "headlens/tasks/multiple_choice.h"

#include <gtest/gtest.h>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

// The expected text comes from an independent generator (draw_test.cpp).
TEST(MultipleChoice, FirstPromptOfASeedNeverChanges) {
  const Example example = make_multiple_choice({4, 1}, 3)[0];
  EXPECT_EQ(example.prompt, "Which option is light?\nA. nail\nB. light\nC. cup\nD. train\nAnswer:");
  EXPECT_EQ(example.choices, (std::vector<std::string>{" A", " B", " C", " D"}));
  EXPECT_EQ(example.answer, 1);
  ASSERT_EQ(example.spans.size(), 4u);
  EXPECT_EQ(
      example.prompt.substr(example.spans[1].begin, example.spans[1].end - example.spans[1].begin),
      "B. light\n");
  EXPECT_EQ(example.spans[0].end, example.spans[1].begin);
}

TEST(MultipleChoice, EightOptionsReachH) {
  for (const Example& example : make_multiple_choice({8, 20}, 4)) {
    EXPECT_EQ(example.choices.back(), " H");
    const ByteSpan right = example.spans[static_cast<size_t>(example.answer)];
    const std::string line = example.prompt.substr(right.begin, right.end - right.begin);
    const std::string word = line.substr(3, line.size() - 4);
    EXPECT_EQ(example.prompt.rfind("Which option is " + word + "?\n", 0), 0u);
  }
}

TEST(MultipleChoice, RefusesWhatHasNoLetter) {
  EXPECT_EQ(testing::error_message<UsageError>([] {
              make_multiple_choice({9, 1}, 0);
            }),
            "[task] mcq: options, expected 2 to 8, got 9");
  EXPECT_EQ(testing::error_message<UsageError>([] {
              make_multiple_choice({4, -1}, 0);
            }),
            "[task] mcq: n, expected at least 1, got -1");
}

}  // namespace
}  // namespace headlens
