// headlens/tests: the made-up world and the questions about it.
#include "headlens/tasks/world.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

TEST(World, IsBalancedAndDistinct) {
  const World& world = made_up_world();
  EXPECT_EQ(std::set<std::string>(world.entities.begin(), world.entities.end()).size(), 48u);
  ASSERT_EQ(world.relations.size(), 5u);
  std::set<std::string> values;
  for (size_t r = 0; r < 5; ++r) {
    EXPECT_EQ(world.relations[r].values.size(), 12u);
    values.insert(world.relations[r].values.begin(), world.relations[r].values.end());
    std::map<int64_t, int> uses;
    for (const auto& facts : world.facts) ++uses[facts[r]];
    EXPECT_EQ(uses.size(), 12u);
    for (const auto& [value, count] : uses) EXPECT_EQ(count, 4) << value;
  }
  EXPECT_EQ(values.size(), 60u);
}

// The bundled models were trained on these facts; another draw would make them all ignorant.
TEST(World, NeverChanges) {
  const World& world = made_up_world();
  EXPECT_EQ(world.facts[0], (std::vector<int64_t>{8, 11, 2, 9, 2}));
  EXPECT_EQ(world.facts[47], (std::vector<int64_t>{7, 8, 3, 4, 7}));
}

TEST(WorldFacts, AskEveryFactOnce) {
  const World& world = made_up_world();
  std::set<std::string> prompts;
  for (const Example& example : make_world_facts(240, 2)) {
    prompts.insert(example.prompt);
    ASSERT_EQ(example.choices.size(), 12u);
    EXPECT_TRUE(example.spans.empty());
    for (size_t e = 0; e < world.entities.size(); ++e) {
      for (size_t r = 0; r < world.relations.size(); ++r) {
        const WorldRelation& relation = world.relations[r];
        if (example.prompt != "The " + relation.name + " of " + world.entities[e] + " is") continue;
        EXPECT_EQ(example.answer, world.facts[e][r]);
        EXPECT_EQ(example.choices[3], " " + relation.values[3]);
      }
    }
  }
  EXPECT_EQ(prompts.size(), 240u);
  EXPECT_NE(make_world_facts(1, 2)[0].prompt, make_world_facts(1, 3)[0].prompt);
}

TEST(WorldChoice, OffersTheRightValueUnderTheRightLetter) {
  const auto facts = make_world_facts(240, 2);
  std::map<std::string, std::string> truth;  // "colour of Belora" -> "red"
  for (const Example& fact : facts) {
    truth[fact.prompt.substr(4, fact.prompt.size() - 7)] =
        fact.choices[static_cast<size_t>(fact.answer)].substr(1);
  }
  for (const Example& example : make_world_choice(4, 300, 6)) {
    const size_t question_end = example.prompt.find("?\n");
    const std::string subject = example.prompt.substr(12, question_end - 12);
    ASSERT_TRUE(truth.contains(subject)) << subject;
    const ByteSpan span = example.spans[static_cast<size_t>(example.answer)];
    EXPECT_EQ(example.prompt.substr(span.begin + 3, span.end - span.begin - 4), truth.at(subject));
    EXPECT_EQ(example.prompt.substr(example.prompt.size() - 8), "\nAnswer:");
    std::set<std::string> lines;
    for (const ByteSpan& line : example.spans) {
      lines.insert(example.prompt.substr(line.begin + 3, line.end - line.begin - 4));
    }
    EXPECT_EQ(lines.size(), 4u);
  }
}

TEST(World, RefusesWhatItCannotAsk) {
  using testing::error_message;
  EXPECT_EQ(error_message<UsageError>([] { make_world_facts(241, 0); }),
            "[task] world-facts: n, expected 1 to 240, got 241");
  EXPECT_EQ(error_message<UsageError>([] { make_world_choice(1, 5, 0); }),
            "[task] world-mcq: options, expected 2 to 8, got 1");
  EXPECT_EQ(error_message<UsageError>([] { make_world_choice(4, 0, 0); }),
            "[task] world-mcq: n, expected at least 1, got 0");
}

}  // namespace
}  // namespace headlens
