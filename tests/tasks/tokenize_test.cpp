// headlens/tests: examples as token ids, under one token a word and under two byte-level BPEs.
#include <gtest/gtest.h>

#include <numeric>

#include "core/error_message.h"
#include "headlens/core/error.h"
#include "headlens/tasks/kv_retrieval.h"
#include "headlens/tasks/multiple_choice.h"
#include "headlens/tasks/task.h"
#include "tasks/token_spans.h"
#include "tokenizers.h"

namespace headlens {
namespace {

using testing::error_message;
using Ids = std::vector<int64_t>;

const std::string kSpace = "\xC4\xA0";    // a space in GPT-2's letters
const std::string kNewline = "\xC4\x8A";  // a newline

/// Merges such as real vocabularies have: whole words, " 1", "12".
Tokenizer plain_bpe() {
  return testing::bpe_tokenizer(
      {{"t", "h"}, {"th", "e"}, {"i", "s"}, {"1", "2"}, {kSpace, "1"}, {kSpace, "12"}, {"a", "r"}},
      /*split_words=*/true);
}

/// Merges that cross the edges of pairs: "7\n", ":1", "\nc".
Tokenizer crossing_bpe() {
  std::vector<std::pair<std::string, std::string>> merges = {{":", "1"}, {kNewline, "c"}};
  for (char digit = '0'; digit <= '9'; ++digit)
    merges.emplace_back(std::string(1, digit), kNewline);
  return testing::bpe_tokenizer(merges, /*split_words=*/false);
}

/// Segments from the bytes of each token, which a byte-level BPE gives away for ASCII text.
std::vector<Segment> segments_by_bytes(const Example& example, const Tokenizer& tokenizer) {
  const Ids ids = tokenizer.encode(example.prompt);
  std::vector<size_t> ends = {0};
  for (const int64_t& id : ids) ends.push_back(ends.back() + tokenizer.decode({&id, 1}).size());
  EXPECT_EQ(ends.back(), example.prompt.size());
  const auto token_of = [&](size_t byte) {
    return std::upper_bound(ends.begin(), ends.end(), byte) - ends.begin() - 1;
  };
  std::vector<Segment> segments;
  for (const ByteSpan& span : example.spans) {
    segments.push_back({token_of(span.begin), token_of(span.end - 1)});
  }
  return segments;
}

std::vector<Example> kv_and_mcq() {
  std::vector<Example> examples = make_kv_retrieval({12, 8}, 1);
  for (Example& example : make_multiple_choice({6, 8}, 1)) examples.push_back(std::move(example));
  return examples;
}

TEST(Tokenize, SegmentsHoldTheirBytesUnderBpe) {
  for (const Tokenizer& tokenizer : {plain_bpe(), crossing_bpe()}) {
    for (const Example& example : kv_and_mcq()) {
      EXPECT_EQ(tokenize(example, tokenizer).segments, segments_by_bytes(example, tokenizer));
    }
  }
}

TEST(Tokenize, TheCrossingBpeDoesCrossEdges) {
  const Tokenizer tokenizer = crossing_bpe();
  const Example example = make_kv_retrieval({12, 1}, 1)[0];
  const TokenizedExample out = tokenize(example, tokenizer);
  EXPECT_EQ(out.tokens[static_cast<size_t>(out.segments[0].end)].back(), '\n');
}

TEST(Tokenize, SegmentsUnderOneTokenAWord) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const TokenizedExample kv = tokenize(make_kv_retrieval({3, 1}, 3)[0], tokenizer);
  // Memorize the following dictionary : \n | nail :29 \n | light :57 \n | cup :50 \n | ...
  EXPECT_EQ(kv.segments, (std::vector<Segment>{{6, 7}, {9, 10}, {12, 13}}));
  EXPECT_EQ(kv.tokens[7], ":29");
  EXPECT_EQ(kv.tokens[9], "light");
  EXPECT_EQ(kv.prompt_ids.size(), 24u);
  EXPECT_EQ(kv.choice_ids, (std::vector<Ids>{{*tokenizer.token_to_id("29")},
                                             {*tokenizer.token_to_id("57")},
                                             {*tokenizer.token_to_id("50")}}));
  EXPECT_EQ(kv.answer, 2);
  const TokenizedExample mcq = tokenize(make_multiple_choice({4, 1}, 3)[0], tokenizer);
  // Which option is light ? \n | A. nail \n | B. light \n | ...
  EXPECT_EQ(mcq.segments, (std::vector<Segment>{{6, 8}, {9, 11}, {12, 14}, {15, 17}}));
  EXPECT_EQ(mcq.tokens[11], "\n");
  EXPECT_EQ(mcq.tokens.size(), 20u);
}

TEST(Tokenize, ChoicesAreWhatFollowsThePromptByCount) {
  const Tokenizer tokenizer = plain_bpe();
  Example example;
  example.prompt = "is";
  example.choices = {" 12", " 1", " 34"};
  const TokenizedExample out = tokenize(example, tokenizer);
  EXPECT_EQ(out.choice_ids[0], (Ids{*tokenizer.token_to_id(kSpace + "12")}));
  EXPECT_EQ(out.choice_ids[1], (Ids{*tokenizer.token_to_id(kSpace + "1")}));
  EXPECT_EQ(out.choice_ids[2], (Ids{*tokenizer.token_to_id(kSpace), '3', '4'}));
}

TEST(Tokenize, BosShiftsSegments) {
  const Tokenizer tokenizer = testing::bpe_tokenizer({{"a", "b"}}, true, /*bos=*/true);
  Example example;
  example.prompt = "ab c";
  example.choices = {"x", "y"};
  example.segments = {{0, 0}, {1, 2}};
  const TokenizedExample plain = tokenize(example, tokenizer);
  const TokenizedExample with_bos = tokenize(example, tokenizer, /*bos=*/true);
  EXPECT_EQ(plain.segments, example.segments);
  EXPECT_EQ(with_bos.segments, (std::vector<Segment>{{1, 1}, {2, 3}}));
  Ids expected = {*tokenizer.token_to_id("<s>")};
  expected.insert(expected.end(), plain.prompt_ids.begin(), plain.prompt_ids.end());
  EXPECT_EQ(with_bos.prompt_ids, expected);
  EXPECT_EQ(with_bos.tokens[0], "<s>");
  EXPECT_EQ(with_bos.choice_ids, plain.choice_ids);
  EXPECT_EQ(tokenize(example, plain_bpe(), /*bos=*/true).segments.size(),
            2u);  // it has none: no shift
}

TEST(Tokenize, WholeTasksKeepTheirOrder) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const Task task = make_task("kv:pairs=3,n=40", 6);
  const auto all = tokenize(task, tokenizer);
  ASSERT_EQ(all.size(), 40u);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].prompt, task.examples[i].prompt);
}

TEST(Tokenize, NamesTheSourceOfABadExample) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  Example example;
  example.source = "data.jsonl line 7";
  const auto message = [&] {
    return error_message<TaskError>([&] { tokenize(example, tokenizer); });
  };
  EXPECT_EQ(message(), "[task] data.jsonl line 7: 'prompt', expected text, got none");
  example.prompt = " ";
  EXPECT_EQ(message(), "[task] data.jsonl line 7: 'choices', expected at least 2, got 0");
  example.choices = {" A", ""};
  example.answer = 2;
  EXPECT_EQ(message(), "[task] data.jsonl line 7: 'answer', expected 0 to 1, got 2");
  example.answer = 0;
  EXPECT_EQ(message(), "[task] data.jsonl line 7: 'prompt', expected tokens, got none");
  example.prompt = "Answer:";
  EXPECT_EQ(message(),
            "[task] data.jsonl line 7: choice 1 (''), expected tokens past the prompt's 2, "
            "got 2 in all");
  example.choices[1] = " B";
  example.segments = {{0, 1}, {1, 2}};
  EXPECT_EQ(message(),
            "[task] data.jsonl line 7: 'segments', expected 0 <= start <= end < 2 (the prompt's "
            "tokens), got [1, 2]");
  example.segments.clear();
  example.spans = {{3, 99}};
  EXPECT_EQ(message(), "[task] data.jsonl line 7: span, expected bytes within 0 to 7, got 3 to 99");
}

// Contexts "a bc|" and "a bd|" share "a b" only once they are tokens: with no merges, bytes.
TEST(Tokenize, ScoresWhatComesAfterTheLeads) {
  const Tokenizer tokenizer = testing::bpe_tokenizer({}, /*split_words=*/false, /*bos=*/true);
  Example example;
  example.prompt = "a ";
  example.leads = {"bcc", "bd"};
  example.choices = {" x", " x"};
  example.lengths = {3, 4};
  const TokenizedExample plain = tokenize(example, tokenizer);
  EXPECT_EQ(plain.prompt_ids, tokenizer.encode("a b"));
  EXPECT_EQ(plain.choice_ids[0], tokenizer.encode("cc x"));
  EXPECT_EQ(plain.choice_ids[1], tokenizer.encode("d x"));
  EXPECT_EQ(plain.lead_counts, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(plain.lengths, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(tokenize(example, tokenizer, /*bos=*/true).prompt_ids,
            tokenizer.encode("a b", /*add_special_tokens=*/true));
  example.prompt = "";
  example.leads = {"x", "y"};
  EXPECT_EQ(error_message<TaskError>([&] { tokenize(example, tokenizer); }),
            "[task] : contexts, expected to begin with the same token, got none in common");
  EXPECT_EQ(std::ssize(tokenize(example, tokenizer, /*bos=*/true).prompt_ids), 1);
  example.leads.pop_back();
  EXPECT_EQ(error_message<TaskError>([&] { tokenize(example, tokenizer); }),
            "[task] : leads, expected one a choice, 2, got 1");
}

TEST(TokenSpans, RefusesASpanWithoutTokens) {
  const Tokenizer tokenizer = testing::word_tokenizer();
  const std::string text = "key  value";
  const auto call = [&] {
    token_spans(text, tokenizer.encode(text), {{4, 5}}, tokenizer, "line 1");
  };
  EXPECT_EQ(error_message<TaskError>(call),
            "[task] line 1: span ' ', expected at least one token, got none");
}

TEST(TokenSpans, KeepsCharactersWhole) {
  // Two-byte letters, three tokens: the edges of the span fall inside what the merges made of them.
  const std::string a = testing::byte_letter(0xC3), b = testing::byte_letter(0xA9);
  const Tokenizer tokenizer = testing::bpe_tokenizer({{"x", a}, {b, "y"}}, false);
  const std::string text = "x\xC3\xA9y";  // tokens "x\xC3" and "\xA9y"
  const auto ids = tokenizer.encode(text);
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(token_spans(text, ids, {{1, 3}}, tokenizer, "")[0], (Segment{0, 1}));
}

}  // namespace
}  // namespace headlens
