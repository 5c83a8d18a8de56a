// headlens/tests: mappings shown by example.
#include "headlens/tasks/icl_map.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using Texts = std::vector<std::string>;

// The expected text comes from an independent generator (draw_test.cpp).
TEST(IclMap, FirstPromptOfASeedNeverChanges) {
  const Example example = make_icl_map({3, 1}, 3)[0];
  EXPECT_EQ(example.prompt, "box: boxs\nbed: beds\nbutton: buttons\nnovel:");
  EXPECT_EQ(example.choices,
            (Texts{" novel", " Novel", " NOVEL", " n", " l", " novels", " levon"}));
  EXPECT_EQ(example.answer, 5);
  EXPECT_EQ(example.source, "icl-map example 1");
}

TEST(IclMap, ImagesAreDistinctAndSegmentsAreTheExamples) {
  std::set<int64_t> answers;
  for (const Example& example : make_icl_map({6, 60}, 1)) {
    EXPECT_EQ(std::set<std::string>(example.choices.begin(), example.choices.end()).size(), 7u);
    ASSERT_EQ(example.spans.size(), 6u);  // not 7: none of them is the right one
    for (const ByteSpan& span : example.spans) {
      EXPECT_EQ(example.prompt[span.end], '\n');
      EXPECT_TRUE(span.begin == 0 || example.prompt[span.begin - 1] == '\n');
    }
    answers.insert(example.answer);
  }
  EXPECT_EQ(answers.size(), 7u);
}

TEST(IclMap, RefusesWhatCannotBeDrawn) {
  EXPECT_EQ(testing::error_message<UsageError>([] {
              make_icl_map({7, 1}, 0);
            }),
            "[task] icl-map: shots, expected 1 to 6, got 7");
}

}  // namespace
}  // namespace headlens
