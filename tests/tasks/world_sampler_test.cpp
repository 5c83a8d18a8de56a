// headlens/tests: training lines are the tasks' own prompts, and their weights lie on the answers.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/tasks/world.h"
#include "tokenizers.h"

namespace headlens {
namespace {

WorldMix only(double WorldMix::*kind) {
  WorldMix mix;
  mix.kv = mix.relists = mix.copies = mix.letters = mix.facts = mix.fact_letters = 0;
  mix.*kind = 1;
  return mix;
}

std::string answer_text(const WorldLine& line, size_t i) {
  return line.text.substr(line.answers[i].begin, line.answers[i].end - line.answers[i].begin);
}

TEST(WorldSampler, DictionariesAreAskedForTheirOwnPairs) {
  WorldMix mix = only(&WorldMix::kv);
  mix.min_pairs = 3;
  mix.max_pairs = 9;
  mix.queries = 6;
  WorldSampler sampler(4);
  std::set<int64_t> sizes;
  for (int i = 0; i < 60; ++i) {
    const WorldLine line = sampler.next(mix);
    EXPECT_EQ(line.text.rfind("Memorize the following dictionary:\n", 0), 0u);
    EXPECT_EQ(line.text.back(), '\n');
    ASSERT_EQ(line.answers.size(), 6u);
    sizes.insert(std::count(line.text.begin(), line.text.end(), '\n') - 1 - 6);
    for (size_t a = 0; a < line.answers.size(); ++a) {
      const size_t close = line.answers[a].begin - std::string("' is ").size();
      const size_t open = line.text.rfind('\'', close - 1) + 1;
      const std::string key = line.text.substr(open, close - open);
      EXPECT_NE(line.text.find("\n" + key + ":" + answer_text(line, a) + "\n"), std::string::npos);
      const std::string query = "\nThe value of the key '" + key + "' is " + answer_text(line, a);
      EXPECT_NE(line.text.find(query + "\n"), std::string::npos);
    }
  }
  EXPECT_EQ(sizes, (std::set<int64_t>{3, 4, 5, 6, 7, 8, 9}));
}

TEST(WorldSampler, RelistsHoldTheSamePairsAgain) {
  WorldMix mix = only(&WorldMix::relists);
  mix.min_pairs = mix.max_pairs = 6;
  mix.words = 8;
  mix.values = 7;
  WorldSampler sampler(8);
  for (int i = 0; i < 20; ++i) {
    const WorldLine line = sampler.next(mix);
    std::istringstream lines(line.text);
    std::string text;
    std::getline(lines, text);
    EXPECT_EQ(text, "Memorize the following dictionary:");
    std::multiset<std::string> first, second;
    for (int row = 0; row < 12; ++row) {
      ASSERT_TRUE(std::getline(lines, text));
      (row < 6 ? first : second).insert(text);
    }
    EXPECT_EQ(first, second);
    EXPECT_FALSE(std::getline(lines, text));
    for (const std::string& pair : first) EXPECT_LT(std::stoi(pair.substr(pair.find(':') + 1)), 7);
    ASSERT_EQ(line.answers.size(), 6u);
    EXPECT_EQ(answer_text(line, 0)[0], ':');
  }
}

TEST(WorldSampler, CopiesAnswerWithTheRowAgain) {
  WorldSampler sampler(9);
  for (int i = 0; i < 20; ++i) {
    const WorldLine line = sampler.next(only(&WorldMix::copies));
    const size_t middle = line.text.find(" \n");
    const std::string row = line.text.substr(0, middle);
    EXPECT_EQ(line.text, row + " \n" + row + "\n");
    EXPECT_EQ(std::count(row.begin(), row.end(), ' '), std::ssize(line.answers));
  }
}

TEST(WorldSampler, AsksSeveralQuestionsInALine) {
  WorldMix mix = only(&WorldMix::facts);
  mix.questions = 3;
  WorldSampler sampler(3);
  EXPECT_EQ(sampler.next(mix).answers.size(), 3u);
  mix.facts = 0;
  mix.letters = 1;
  EXPECT_EQ(sampler.next(mix).answers.size(), 3u);
}

TEST(WorldSampler, LettersNameTheRightOption) {
  WorldSampler sampler(5);
  for (int i = 0; i < 40; ++i) {
    const WorldLine line = sampler.next(only(&WorldMix::letters));
    const std::string word = line.text.substr(16, line.text.find('?') - 16);
    EXPECT_NE(line.text.find("\n" + answer_text(line, 0) + ". " + word + "\n"), std::string::npos);
    EXPECT_EQ(line.text.substr(line.answers[0].begin - 9),
              "\nAnswer: " + answer_text(line, 0) + "\n");
  }
}

TEST(WorldSampler, FactsAreTheWorlds) {
  std::map<std::string, std::string> truth;
  for (const Example& fact : make_world_facts(240, 0)) {
    truth[fact.prompt] = fact.choices[static_cast<size_t>(fact.answer)].substr(1);
  }
  WorldSampler sampler(6);
  for (int i = 0; i < 60; ++i) {
    const WorldLine fact = sampler.next(only(&WorldMix::facts));
    const std::string prompt = fact.text.substr(0, fact.answers[0].begin - 1);
    EXPECT_EQ(answer_text(fact, 0), truth.at(prompt));
    const WorldLine choice = sampler.next(only(&WorldMix::fact_letters));
    const size_t subject_end = choice.text.find('?');
    const std::string subject = choice.text.substr(12, subject_end - 12);
    const std::string value = truth.at("The " + subject + " is");
    EXPECT_NE(choice.text.find("\n" + answer_text(choice, 0) + ". " + value + "\n"),
              std::string::npos);
  }
}

TEST(WorldSampler, IdsAreTheTokenizersOwnAndWeightsLieOnAnswers) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  WorldMix mix;
  mix.relists = mix.copies = 1;
  mix.other_weight = 0.25F;
  WorldSampler texts(7), ids(7);
  for (int i = 0; i < 200; ++i) {
    const WorldLine line = texts.next(mix);
    const WeightedLine weighted = ids.next(mix, tokenizer);
    std::vector<int64_t> expected = tokenizer.encode(line.text);
    expected.push_back(*tokenizer.token_to_id("<eos>"));
    ASSERT_EQ(weighted.ids, expected) << line.text;
    ASSERT_EQ(weighted.weights.size(), weighted.ids.size());
    EXPECT_EQ(weighted.weights.front(), 0);
    std::vector<std::string> supervised, answers;
    for (size_t t = 1; t < weighted.ids.size(); ++t) {
      if (weighted.weights[t] == 1)
        supervised.push_back(tokenizer.id_to_token(weighted.ids[t]));
      else
        EXPECT_EQ(weighted.weights[t], 0.25F);
    }
    for (size_t a = 0; a < line.answers.size(); ++a) answers.push_back(answer_text(line, a));
    EXPECT_EQ(supervised, answers);
  }
}

TEST(WorldSampler, SameSeedSameLines) {
  WorldSampler one(9), two(9), other(10);
  bool differs = false;
  for (int i = 0; i < 20; ++i) {
    const std::string text = one.next({}).text;
    EXPECT_EQ(text, two.next({}).text);
    differs = differs || text != other.next({}).text;
  }
  EXPECT_TRUE(differs);
}

TEST(WorldSampler, MixesByFrequency) {
  WorldMix mix;
  mix.kv = 3;
  mix.letters = 0;
  mix.fact_letters = 0;
  WorldSampler sampler(1);
  int dictionaries = 0;
  for (int i = 0; i < 2000; ++i) dictionaries += sampler.next(mix).text[0] == 'M' ? 1 : 0;
  EXPECT_NEAR(dictionaries, 1500, 80);  // four standard deviations of a binomial
}

TEST(WorldSampler, RefusesImpossibleMixesAndOtherTokenizers) {
  using testing::error_message;
  WorldSampler sampler(1);
  WorldMix none = only(&WorldMix::kv);
  none.kv = 0;
  EXPECT_EQ(error_message<UsageError>([&] { sampler.next(none); }),
            "[world] frequencies, expected none negative and a positive sum, got 0 0 0 0 0 0");
  WorldMix pairs;
  pairs.min_pairs = 5;
  pairs.max_pairs = 4;
  EXPECT_EQ(error_message<UsageError>([&] { sampler.next(pairs); }),
            "[world] pairs, expected 1 <= min <= max <= 100 and a query, got 5 to 4, 8");
  WorldMix options;
  options.max_options = 9;
  EXPECT_EQ(error_message<UsageError>([&] { sampler.next(options); }),
            "[world] options, expected 2 <= min <= max <= 8, got 2 to 9");
  WorldMix words;
  words.words = 12;
  EXPECT_EQ(error_message<UsageError>([&] { sampler.next(words); }),
            "[world] words and values, expected 20 to 256 and 100, got 12 and 100");
  WorldMix questions;
  questions.questions = 0;
  EXPECT_EQ(error_message<UsageError>([&] { sampler.next(questions); }),
            "[world] questions, expected at least 1, got 0");
  const Tokenizer bytes = testing::bpe_tokenizer({}, true);
  EXPECT_EQ(error_message<UsageError>([&] { sampler.next({}, bytes); }),
            "[world] tokenizer, expected the world's own, got another");
}

}  // namespace
}  // namespace headlens
