// headlens/tests: corrupted prompts: as many tokens, another answer, nothing else changed.
#include "headlens/tasks/corrupted.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "tokenizers.h"

namespace headlens {
namespace {

using testing::bpe_tokenizer;
using testing::error_message;
using testing::word_tokenizer;

Task one_example(std::string prompt, std::vector<std::string> choices, int64_t answer,
                 std::vector<ByteSpan> spans) {
  Task task;
  task.examples.push_back({.prompt = std::move(prompt),
                           .choices = std::move(choices),
                           .answer = answer,
                           .segments = {},
                           .spans = std::move(spans),
                           .leads = {},
                           .lengths = {},
                           .source = "example 1",
                           .corrupted = {},
                           .corrupted_answer = -1});
  return task;
}

// Nine clean prompts begin alike and are batched by themselves; of the corrupted ones no two do.
TEST(ChoicePair, HasTheSameRowsWhateverPromptsBeginWith) {
  std::vector<TokenizedExample> clean(10), corrupted;
  for (int64_t i = 0; i < 10; ++i) {
    TokenizedExample& example = clean[static_cast<size_t>(i)];
    example.prompt_ids = {1, 2, 3, 4, 5, 6, 20 + i};
    if (i == 4) example.prompt_ids = {9, 8, 7, 6, 5, 4, 3};
    example.choice_ids = {{30}, {31, 32}, {31, 33}};
    corrupted.push_back(example);
    corrupted.back().prompt_ids[0] = 50 + i;
    corrupted.back().answer = 2;
  }
  const auto expected = corrupted;
  const auto [own, others] = make_choice_pair(clean, corrupted, 1000);
  ASSERT_EQ(own->batch_count(), 2);  // the fifth is no kin of the others
  ASSERT_EQ(others->batch_count(), 2);
  for (int64_t b = 0; b < 2; ++b) {
    const ObjectiveBatch &a = own->batch(b), &c = others->batch(b);
    EXPECT_EQ(a.examples, c.examples);
    EXPECT_EQ(a.example_rows, c.example_rows);
    EXPECT_TRUE(at::equal(a.logit_positions, c.logit_positions));
    EXPECT_TRUE(at::equal(a.ids.slice(1, 1), c.ids.slice(1, 1)));
    for (size_t i = 0; i < a.examples.size(); ++i) {
      const auto e = static_cast<size_t>(a.examples[i]);
      EXPECT_EQ(a.ids[a.example_rows[i]][0].item<int64_t>(), clean[e].prompt_ids[0]);
      EXPECT_EQ(c.ids[c.example_rows[i]][0].item<int64_t>(), expected[e].prompt_ids[0]);
      // All three choices are as likely: the first is named, which is right in the clean run alone.
      const Tensor logits = at::zeros({a.ids.size(0), a.logit_positions.size(1), 60});
      EXPECT_TRUE(own->judge(b, logits, 1)[0][i].correct);
      EXPECT_FALSE(others->judge(b, logits, 1)[0][i].correct);
    }
  }
  corrupted = expected;
  corrupted[3].prompt_ids.push_back(1);
  EXPECT_EQ(error_message<TaskError>([&] { make_choice_pair(clean, corrupted, 1000); }),
            "[objective] corrupted example 3, expected as many tokens and the same choices as the "
            "clean one, got others");
}

TEST(Corrupted, SwapsTheValuesOfTwoPairs) {
  // bytes are tokens: "17" and "42" are as long, "5" is not
  const Task task = one_example("a:5\nb:17\nc:42\nd:175\nof 'b':", {" 5", " 17", " 42", " 175"}, 1,
                                {{0, 3}, {4, 8}, {9, 13}, {14, 19}});
  const Tokenizer tokenizer = bpe_tokenizer({}, /*split_words=*/false);
  const auto clean = tokenize(task, tokenizer);
  EXPECT_EQ(default_corruption(task), Corruption::Swap);
  const auto corrupted = corrupted_examples(task, clean, tokenizer, Corruption::Swap);
  EXPECT_EQ(corrupted[0].prompt, "a:5\nb:42\nc:17\nd:175\nof 'b':");
  EXPECT_EQ(corrupted[0].answer, 2);
  EXPECT_EQ(corrupted[0].segments, clean[0].segments);
  EXPECT_EQ(corrupted[0].choice_ids, clean[0].choice_ids);
}

TEST(Corrupted, SwapsTheOptionsOfTwoLetters) {
  const Task task =
      one_example("Which is owl?\nA. cat\nB. ape or so\nC. owl\nAnswer:", {" A", " B", " C"}, 2,
                  {{14, 21}, {21, 34}, {34, 41}});
  const Tokenizer tokenizer = bpe_tokenizer({}, false);
  const auto clean = tokenize(task, tokenizer);
  const auto corrupted = corrupted_examples(task, clean, tokenizer, Corruption::Swap);
  EXPECT_EQ(corrupted[0].prompt, "Which is owl?\nA. owl\nB. ape or so\nC. cat\nAnswer:");
  EXPECT_EQ(corrupted[0].answer, 0);
}

/// In every made task that recalls: the swapped prompt is one whose own answer is the other choice.
TEST(Corrupted, MadeTasksSwapSoThatTheAnswerIsTheOther) {
  const Tokenizer tokenizer = word_tokenizer();
  for (const char* spec : {"kv:pairs=9,n=20", "mcq:options=4,n=20", "mqar:pairs=12,queries=4,n=20",
                           "copy:length=24,n=20", "induction:length=24,n=20",
                           "selective-copy:items=16,length=32,n=20"}) {
    const Task task = make_task(spec, 4);
    EXPECT_EQ(default_corruption(task), Corruption::Swap) << spec;
    const auto clean = tokenize(task, tokenizer);
    std::vector<TokenizedExample> corrupted;
    try {
      corrupted = corrupted_examples(task, clean, tokenizer, Corruption::Swap);
    } catch (const TaskError& error) {
      ADD_FAILURE() << spec << ": " << error.what();
      continue;
    }
    for (size_t i = 0; i < clean.size(); ++i) {
      const TokenizedExample &own = clean[i], &other = corrupted[i];
      ASSERT_EQ(own.prompt_ids.size(), other.prompt_ids.size());
      EXPECT_NE(own.answer, other.answer);
      const auto tokens_of = [&](const TokenizedExample& e, int64_t s) {
        const Segment& segment = e.segments[static_cast<size_t>(s)];
        return std::vector<int64_t>(e.prompt_ids.begin() + segment.start,
                                    e.prompt_ids.begin() + segment.end + 1);
      };
      // Segments of other choices are as they were, unless they hold one of the two words.
      EXPECT_NE(tokens_of(own, own.answer), tokens_of(other, own.answer)) << spec << " " << i;
      EXPECT_NE(tokens_of(own, other.answer), tokens_of(other, other.answer)) << spec << " " << i;
    }
  }
}

TEST(Corrupted, WordsOfOtherLengthsMaySwapWhereTokensAreWords) {
  const Tokenizer tokenizer = word_tokenizer();
  for (const char* spec : {"mcq:options=4,n=64", "kv:pairs=8,n=64"}) {
    const Task task = make_task(spec, 3);
    const auto clean = tokenize(task, tokenizer);
    const auto corrupted = corrupted_examples(task, clean, tokenizer, Corruption::Swap);
    size_t unlike = 0;
    for (size_t i = 0; i < clean.size(); ++i) {
      EXPECT_EQ(corrupted[i].segments, clean[i].segments);
      EXPECT_EQ(corrupted[i].answer, (clean[i].answer + 1) % std::ssize(clean[i].choice_ids));
      for (size_t p = 0; p < clean[i].prompt_ids.size(); ++p) {
        unlike += clean[i].prompt_ids[p] != corrupted[i].prompt_ids[p];
      }
    }
    EXPECT_EQ(unlike, 2 * clean.size()) << spec;  // two tokens a prompt
  }
}

TEST(Corrupted, AnotherExampleOfAsManyTokens) {
  const Tokenizer tokenizer = word_tokenizer();
  const Task task = make_task("kv:pairs=20,n=200", 1);
  const auto clean = tokenize(task, tokenizer);
  const auto corrupted = corrupted_examples(task, clean, tokenizer, Corruption::Example);
  for (size_t i = 0; i < clean.size(); ++i) {
    EXPECT_EQ(corrupted[i].prompt_ids.size(), clean[i].prompt_ids.size());
    EXPECT_NE(corrupted[i].answer, clean[i].answer);
    EXPECT_EQ(corrupted[i].choice_ids, clean[i].choice_ids);
    const auto donor = std::find_if(clean.begin(), clean.end(), [&](const auto& e) {
      return e.prompt_ids == corrupted[i].prompt_ids;
    });
    ASSERT_NE(donor, clean.end());
    const auto answer = static_cast<size_t>(corrupted[i].answer);
    EXPECT_EQ(donor->choice_ids[static_cast<size_t>(donor->answer)],
              corrupted[i].choice_ids[answer]);
  }
}

TEST(Corrupted, ALineOfJsonMayGiveIt) {
  const testing::TempDir dir;
  const auto read = [&](const std::string& line) {
    std::ofstream(dir.path() / "t.jsonl") << line << "\n";
    return make_task("jsonl:" + (dir.path() / "t.jsonl").string(), 0);
  };
  const Tokenizer tokenizer = bpe_tokenizer({}, false);
  const auto corrupt = [&](const Task& task) {
    return corrupted_examples(task, tokenize(task, tokenizer), tokenizer, default_corruption(task));
  };
  const auto found = corrupt(
      read(R"({"prompt": "x=1 x=", "choices": ["1", "2"], "answer": 0, "segments": [[0, 2]], )"
           R"("corrupted": "x=2 x=", "corrupted_answer": 1})"));
  EXPECT_EQ(found[0].prompt, "x=2 x=");
  EXPECT_EQ(found[0].answer, 1);
  EXPECT_EQ(found[0].segments, (std::vector<Segment>{{0, 2}}));
  EXPECT_NE(error_message<TaskError>([&] {
              corrupt(read(R"({"prompt": "x=1 x=", "choices": ["1", "2"], "answer": 0, )"
                           R"("corrupted": "x=22 x=", "corrupted_answer": 1})"));
            }).find("tokens of 'corrupted', expected 6 as in 'prompt', got 7"),
            std::string::npos);
  EXPECT_NE(error_message<TaskError>([&] {
              read(R"({"prompt": "a", "choices": ["1", "2"], "answer": 0, "corrupted": "b"})");
            }).find("'corrupted' and 'corrupted_answer', expected both, got one"),
            std::string::npos);
}

TEST(Corrupted, SaysForWhichExampleThereIsNone) {
  const Tokenizer tokenizer = bpe_tokenizer({}, false);
  Task task = one_example("a:5\nb:17\nof 'b':", {" 5", " 17"}, 1, {{0, 3}, {4, 8}});
  const auto corrupt = [&](Corruption how) {
    return error_message<TaskError>(
        [&] { corrupted_examples(task, tokenize(task, tokenizer), tokenizer, how); });
  };
  EXPECT_EQ(corrupt(Corruption::Swap),
            "[corrupt] example 1: another choice to swap with the right one, expected one of as "
            "many tokens, got none of 1");
  EXPECT_EQ(corrupt(Corruption::Example),
            "[corrupt] example 1: another example of 16 tokens whose answer is another of its "
            "choices, expected one, got none of 0");
  EXPECT_EQ(corrupt(Corruption::Given),
            "[corrupt] example 1: 'corrupted', expected a prompt, got none");
  Task two = task;  // in the second one two values are as long
  two.examples.push_back(
      one_example("a:1\nb:2\nof 'b':", {" 1", " 2"}, 1, {{0, 3}, {4, 7}}).examples[0]);
  std::vector<size_t> kept;
  const auto found = corrupted_where_possible(two, tokenize(two, tokenizer), tokenizer,
                                              Corruption::Swap, false, kept);
  EXPECT_EQ(kept, std::vector<size_t>{1});
  EXPECT_EQ(found.at(0).prompt, "a:2\nb:1\nof 'b':");
  EXPECT_EQ(error_message<TaskError>([&] {
              corrupted_where_possible(task, tokenize(task, tokenizer), tokenizer, Corruption::Swap,
                                       false, kept);
            }),
            corrupt(Corruption::Swap));
  task.examples[0].spans.clear();
  EXPECT_EQ(corrupt(Corruption::Swap),
            "[corrupt] example 1: segments, expected one a choice with the choice in it, to swap, "
            "got others");
}

}  // namespace
}  // namespace headlens
