// headlens/tests: made tasks of copying and recall, prompts byte for byte and what each promises.
#include "headlens/tasks/recall.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using testing::error_message;
using Texts = std::vector<std::string>;

std::string right(const Example& example) {
  return example.choices[static_cast<size_t>(example.answer)];
}

/// The segment of choice i.
std::string segment(const Example& example, size_t i) {
  const ByteSpan span = example.spans[i];
  return example.prompt.substr(span.begin, span.end - span.begin);
}

/// The words after the last newline.
Texts last_line(const std::string& prompt) {
  std::istringstream in(prompt.substr(prompt.rfind('\n') + 1));
  Texts words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

/// Distinct choices, and each in the segment of its number.
void expect_well_formed(const Example& example, int64_t choices) {
  EXPECT_EQ(std::ssize(example.choices), choices);
  EXPECT_EQ(std::set<std::string>(example.choices.begin(), example.choices.end()).size(),
            example.choices.size());
  ASSERT_EQ(example.spans.size(), example.choices.size());
  for (size_t i = 0; i < example.choices.size(); ++i) {
    EXPECT_TRUE((" " + segment(example, i)).ends_with(example.choices[i])) << segment(example, i);
  }
}

// The expected texts come from an independent generator (draw_test.cpp).
TEST(Recall, FirstPromptsOfASeedNeverChange) {
  const Example mqar = make_mqar({4, 2, 1}, 3)[0];
  EXPECT_EQ(mqar.prompt, "nail oil\nlight couch\ncup nose\ntrain map\n\ncup nose\nnail");
  EXPECT_EQ(mqar.choices, (Texts{" oil", " couch", " nose", " map"}));
  EXPECT_EQ(mqar.answer, 0);
  EXPECT_EQ(mqar.source, "mqar example 1");
  const Example copy = make_copy({5, 1}, 3)[0];
  EXPECT_EQ(copy.prompt, "nail light cup train oil\nnail");
  EXPECT_EQ(copy.choices, (Texts{" light", " cup", " train", " oil"}));
  EXPECT_EQ(copy.answer, 0);
  const Example induction = make_induction({6, 1}, 3)[0];
  EXPECT_EQ(induction.prompt, "nail light cup train oil couch oil");
  EXPECT_EQ(induction.answer, 4);
  const Example ngram = make_ngram_lookup({2, 2, 1}, 3)[0];
  EXPECT_EQ(ngram.prompt,
            "light cup nose nail cup oil nail train couch light train map\nlight cup");
  EXPECT_EQ(ngram.choices, (Texts{" nose", " oil", " couch", " map"}));
  EXPECT_EQ(ngram.answer, 0);
  const Example selective = make_selective_copy({4, 8, 1}, 3)[0];
  EXPECT_EQ(selective.prompt, ". nail . . . light cup train\nnail light");
  EXPECT_EQ(selective.choices, (Texts{" light", " cup", " train"}));
  EXPECT_EQ(selective.answer, 1);
}

TEST(Recall, MqarAsksForAPairOfTheList) {
  std::set<int64_t> answers;
  for (const Example& example : make_mqar({12, 5, 40}, 1)) {
    expect_well_formed(example, 12);
    const std::string key = last_line(example.prompt).back();
    EXPECT_EQ(segment(example, static_cast<size_t>(example.answer)), key + right(example));
    EXPECT_EQ(example.prompt.find(right(example)), example.prompt.rfind(right(example)));
    answers.insert(example.answer);
  }
  EXPECT_GT(answers.size(), 8u);
}

TEST(Recall, CopyAndSelectiveCopyAskForTheNextWord) {
  for (const Example& example : make_copy({9, 30}, 2)) {
    expect_well_formed(example, 8);
    EXPECT_EQ(std::ssize(last_line(example.prompt)), example.answer + 1);
    const std::string again = example.prompt.substr(example.prompt.find('\n') + 1);
    EXPECT_TRUE(example.prompt.starts_with(again + right(example)));
  }
  for (const Example& example : make_selective_copy({5, 40, 30}, 2)) {
    expect_well_formed(example, 4);
    std::istringstream in(example.prompt.substr(0, example.prompt.find('\n')));
    Texts words;
    int places = 0;
    for (std::string word; in >> word; ++places) {
      if (word != ".") words.push_back(word);
    }
    EXPECT_EQ(places, 40);
    const Texts shown = last_line(example.prompt);
    ASSERT_LT(shown.size(), words.size());
    EXPECT_TRUE(std::equal(shown.begin(), shown.end(), words.begin()));
    EXPECT_EQ(right(example), " " + words[shown.size()]);
  }
}

TEST(Recall, InductionAsksForWhatFollowed) {
  for (const Example& example : make_induction({7, 30}, 4)) {
    expect_well_formed(example, 6);
    const std::string asked = last_line(example.prompt).back();
    EXPECT_NE((" " + example.prompt).find(" " + asked + right(example)), std::string::npos);
  }
}

// Of the blocks, several share the first word and several the second; one has both.
TEST(Recall, NgramLookupNeedsBothWords) {
  for (const Example& example : make_ngram_lookup({3, 4, 20}, 5)) {
    expect_well_formed(example, 12);
    const Texts asked = last_line(example.prompt);
    int firsts = 0, seconds = 0, both = 0;
    for (size_t i = 0; i < example.spans.size(); ++i) {
      const std::string block = segment(example, i);
      const bool first = block.starts_with(asked[0] + " ");
      const bool second = block.find(" " + asked[1] + " ") != std::string::npos;
      firsts += first;
      seconds += second;
      both += first && second;
    }
    EXPECT_EQ(firsts, 4);
    EXPECT_EQ(seconds, 3);
    EXPECT_EQ(both, 1);
    EXPECT_EQ(segment(example, static_cast<size_t>(example.answer)),
              asked[0] + " " + asked[1] + right(example));
  }
}

TEST(Recall, FewerExamplesAreTheFirstOfMore) {
  EXPECT_EQ(make_mqar({8, 3, 2}, 9)[1].prompt, make_mqar({8, 3, 20}, 9)[1].prompt);
  EXPECT_NE(make_mqar({8, 3, 1}, 9)[0].prompt, make_mqar({8, 3, 1}, 10)[0].prompt);
}

TEST(Recall, RefusesWhatCannotBeDrawn) {
  const auto refused = [](auto&& make) { return error_message<UsageError>(make); };
  EXPECT_EQ(refused([] {
              make_mqar({4, 5, 1}, 0);
            }),
            "[task] mqar: queries, expected 1 to 4, got 5");
  EXPECT_EQ(refused([] {
              make_mqar({129, 1, 1}, 0);
            }),
            "[task] mqar: pairs, expected 2 to 128, got 129");
  EXPECT_EQ(refused([] { make_copy({2, 1}, 0); }), "[task] copy: length, expected 3 to 256, got 2");
  EXPECT_EQ(refused([] { make_copy({20, 0}, 0); }), "[task] copy: n, expected at least 1, got 0");
  EXPECT_EQ(refused([] {
              make_ngram_lookup({12, 2, 1}, 0);
            }),
            "[task] copy-ngram: firsts, expected 2 to 11, got 12");
  EXPECT_EQ(refused([] {
              make_selective_copy({8, 7, 1}, 0);
            }),
            "[task] selective-copy: length, expected 8 to 1024, got 7");
}

}  // namespace
}  // namespace headlens
