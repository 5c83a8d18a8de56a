// headlens/tests: key-value retrieval, prompts byte for byte.
#include "headlens/tasks/kv_retrieval.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

// The expected texts come from an independent generator (draw_test.cpp).
TEST(KvRetrieval, FirstPromptsOfASeedNeverChange) {
  const auto examples = make_kv_retrieval({3, 2}, 3);
  ASSERT_EQ(examples.size(), 2u);
  EXPECT_EQ(examples[0].prompt,
            "Memorize the following dictionary:\nnail:29\nlight:57\ncup:50\n"
            "The value of the key 'cup' is");
  EXPECT_EQ(examples[0].choices, (std::vector<std::string>{" 29", " 57", " 50"}));
  EXPECT_EQ(examples[0].answer, 2);
  EXPECT_EQ(examples[1].prompt,
            "Memorize the following dictionary:\ntank:90\ncoin:22\ntail:46\n"
            "The value of the key 'tank' is");
  EXPECT_EQ(examples[1].answer, 0);
  EXPECT_EQ(examples[1].source, "kv example 2");
}

TEST(KvRetrieval, SpansAreThePairs) {
  const Example example = make_kv_retrieval({20, 1}, 11)[0];
  ASSERT_EQ(example.spans.size(), 20u);
  size_t expected = std::string("Memorize the following dictionary:\n").size();
  for (size_t i = 0; i < 20; ++i) {
    const ByteSpan span = example.spans[i];
    EXPECT_EQ(span.begin, expected);
    EXPECT_EQ(example.prompt[span.end], '\n');
    const std::string pair = example.prompt.substr(span.begin, span.end - span.begin);
    EXPECT_EQ(" " + pair.substr(pair.find(':') + 1), example.choices[i]);
    expected = span.end + 1;
  }
}

TEST(KvRetrieval, KeysAndValuesAreDistinctAndTheAnswerIsAskedFor) {
  std::set<int64_t> answers;
  for (const Example& example : make_kv_retrieval({100, 8}, 5)) {
    std::set<std::string> keys;
    for (const ByteSpan& span : example.spans) {
      const std::string pair = example.prompt.substr(span.begin, span.end - span.begin);
      keys.insert(pair.substr(0, pair.find(':')));
    }
    EXPECT_EQ(keys.size(), 100u);
    EXPECT_EQ(std::set<std::string>(example.choices.begin(), example.choices.end()).size(), 100u);
    const size_t quote = example.prompt.find('\'');
    const std::string key =
        example.prompt.substr(quote + 1, example.prompt.rfind('\'') - quote - 1);
    const std::string right =
        "\n" + key + ":" + example.choices[static_cast<size_t>(example.answer)].substr(1) + "\n";
    EXPECT_NE(example.prompt.find(right), std::string::npos) << right;
    answers.insert(example.answer);
  }
  EXPECT_GT(answers.size(), 4u);
}

TEST(KvRetrieval, FewerExamplesAreTheFirstOfMore) {
  EXPECT_EQ(make_kv_retrieval({5, 3}, 9)[2].prompt, make_kv_retrieval({5, 30}, 9)[2].prompt);
  EXPECT_NE(make_kv_retrieval({5, 1}, 9)[0].prompt, make_kv_retrieval({5, 1}, 10)[0].prompt);
}

TEST(KvRetrieval, RefusesWhatCannotBeDrawn) {
  EXPECT_EQ(testing::error_message<UsageError>([] {
              make_kv_retrieval({101, 1}, 0);
            }),
            "[task] kv: pairs, expected 2 to 100, got 101");
  EXPECT_EQ(testing::error_message<UsageError>([] {
              make_kv_retrieval({5, 0}, 0);
            }),
            "[task] kv: n, expected at least 1, got 0");
}

}  // namespace
}  // namespace headlens
