// headlens/tests: head detectors and the retrieval score against plain code on dense maps.
#include "headlens/analysis/head_scores.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "analysis_tools.h"
#include "core/error_message.h"

namespace headlens {
namespace {

using testing::dense_maps;
using testing::error_message;
using testing::load_model;

/// P of every head of a layer over a text: [head, query, key].
Tensor patterns(const LanguageModel& model, const Tensor& ids, int64_t layer) {
  TokenizedExample example;
  for (int64_t i = 0; i < ids.numel(); ++i) example.prompt_ids.push_back(ids[i].item<int64_t>());
  const Tensor maps = dense_maps(model, example, layer).abs();
  return maps / maps.sum(-1, true).clamp_min(1e-300);
}

class HeadScoresTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Kinds, HeadScoresTest,
                         ::testing::Values("llama", "gpt2", "mamba2", "llamba", "falcon_mamba",
                                           "falcon_h1", "jamba"));

TEST_P(HeadScoresTest, PatternsAreMaskedSharesOfTheDenseMaps) {
  const LanguageModel model = load_model(GetParam());
  Tensor ids = repeated_tokens(20, 3, 9, /*seed=*/5);  // 20 kinds of token: chance repeats as well
  ids[0][4] = ids[0][3];                               // and a pair of neighbours
  const int64_t layer = model.layer_count() - 1, pos = ids.size(1);
  const std::vector<HeadId> targets = {{layer, 1, 1}, {layer, 0, 2}};
  std::vector<std::vector<PatternScores>> ways = {pattern_scores(model, ids, targets)};
  for (const int64_t tokens : {40, 1000}) {  // two prompts of 18 tokens and one, all three
    ways.push_back(pattern_scores(model, ids, targets, {.max_batch_tokens = tokens}));
  }
  Tensor expected = at::zeros({2, 3}, at::kDouble);
  for (int64_t p = 0; p < ids.size(0); ++p) {
    const Tensor same = ids[p].unsqueeze(1).eq(ids[p].unsqueeze(0)).to(at::kDouble);
    const Tensor previous = at::diag_embed(at::ones({pos - 1}, at::kDouble), -1);
    const Tensor duplicate = same.tril(-1);
    Tensor rolled = duplicate.roll({1}, {1});
    rolled.select(1, 0).zero_();
    const Tensor maps = patterns(model, ids[p], layer);
    const Tensor whole = maps.sum({1, 2});
    const std::vector<Tensor> masks = {previous, duplicate, rolled.tril()};
    for (int64_t m = 0; m < 3; ++m) {
      const Tensor scores = (maps * masks[static_cast<size_t>(m)]).sum({1, 2}) / whole / 3;
      expected[0][m] += scores[1];
      expected[1][m] += scores.slice(0, 0, 3).mean();
    }
  }
  for (const std::vector<PatternScores>& found : ways) {
    for (size_t t = 0; t < targets.size(); ++t) {
      const Tensor row = expected[static_cast<int64_t>(t)];
      EXPECT_NEAR(found[t].previous_token, row[0].item<double>(), 1e-5);
      EXPECT_NEAR(found[t].duplicate_token, row[1].item<double>(), 1e-5);
      EXPECT_NEAR(found[t].induction, row[2].item<double>(), 1e-5);
      EXPECT_GT(found[t].duplicate_token, 0);
    }
  }
}

TEST(HeadScores, ABatchIsAStepOfItsOwn) {
  const LanguageModel model = load_model("llama");
  std::vector<std::string> kept;
  HeadScoreOptions options{.max_batch_tokens = 40};
  options.steps = [&](const std::string& key, const std::function<std::string()>& compute) {
    kept.push_back(key);
    return compute();
  };
  std::vector<int64_t> done;
  options.progress = [&](int64_t so_far, int64_t) { done.push_back(so_far); };
  pattern_scores(model, repeated_tokens(20, 3, 9, 0), {{0, 0, 0}}, options);
  EXPECT_EQ(kept,
            (std::vector<std::string>{"patterns of prompts 0 to 1", "patterns of prompts 2 to 2"}));
  EXPECT_EQ(done, (std::vector<int64_t>{2, 3}));
}

constexpr int64_t kWords = 97, kSteps = 2;

/// Ten tokens, of which 2 to 8 are the needle: one word seven times.
std::vector<int64_t> prompt_with(int64_t word) {
  std::vector<int64_t> prompt;
  for (int64_t p = 0; p < 10; ++p) {
    prompt.push_back(p < 2 || p > 8 ? (p * p * 7 + p * 13) % kWords : word);
  }
  return prompt;
}

/// A few words, and those that the model writes behind a needle of them, as far as there are such.
std::vector<int64_t> some_words(const LanguageModel& model) {
  std::vector<Tensor> prompts;
  for (int64_t word = 0; word < kWords; ++word) {
    prompts.push_back(at::tensor(prompt_with(word), at::kLong));
  }
  Tensor texts = at::stack(prompts), written = at::zeros({kWords}, at::kBool);
  for (int64_t step = 0; step < kSteps; ++step) {
    const Tensor next = model.forward(texts).select(1, -1).argmax(-1);
    written = written.logical_or(next.eq(at::arange(kWords, at::kLong)));
    texts = at::cat({texts, next.unsqueeze(1)}, 1);
  }
  std::vector<int64_t> words = {0, 30, 90};
  for (int64_t word = 1; word < 90 && words.size() < 13; ++word) {
    if (word != 30 && written[word].item<bool>()) words.push_back(word);
  }
  return words;
}

/// A trial a word. Answers are what the model itself says, but for word 90.
std::vector<RetrievalTrial> some_trials(const LanguageModel& model) {
  std::vector<RetrievalTrial> trials;
  for (const int64_t word : some_words(model)) {
    RetrievalTrial trial{prompt_with(word), {2, 8}, {}};
    if (trials.size() == 1) trial.prompt.push_back(5);  // of another length than those around it
    std::vector<int64_t> text = trial.prompt;
    for (int64_t step = 0; step < kSteps; ++step) {
      const Tensor logits = model.forward(at::tensor(text, at::kLong).unsqueeze(0));
      text.push_back(logits[0][-1].argmax().item<int64_t>());
      trial.answer.push_back(word == 90 ? (text.back() + 1) % kWords : text.back());
    }
    trials.push_back(trial);
  }
  return trials;
}

/// Share of an answer's tokens among those written, by taking them off one by one.
double found_of(const std::vector<int64_t>& answer, std::vector<int64_t> written) {
  double found = 0;
  for (const int64_t id : answer) {
    const auto at = std::find(written.begin(), written.end(), id);
    if (at == written.end()) continue;
    written.erase(at);
    ++found;
  }
  return found / static_cast<double>(answer.size());
}

TEST_P(HeadScoresTest, RetrievalIsTheCopyOfTheNeedleAtTheLargestEntry) {
  const LanguageModel model = load_model(GetParam());
  const auto trials = some_trials(model);
  const int64_t layer = model.layer_count() - 1;
  const std::vector<HeadId> targets = {{layer, 0, 0}, {layer, 1, 1}, {layer, 0, 2}};
  std::vector<RetrievalScores> ways = {retrieval_scores(model, trials, targets)};
  for (const int64_t tokens : {30, 1000}) {  // two trials at once, all that have one length
    ways.push_back(retrieval_scores(model, trials, targets, 50, {.max_batch_tokens = tokens}));
  }
  std::vector<double> hits(3, 0.0), shares(3, 0.0);  // of heads 0, 1, 2
  int64_t kept = 0;
  for (const RetrievalTrial& trial : trials) {
    std::vector<int64_t> text = trial.prompt, written;
    std::vector<std::multiset<int64_t>> places(3);
    for (int64_t step = 0; step < kSteps; ++step) {
      const Tensor ids = at::tensor(text, at::kLong);
      const int64_t w = model.forward(ids.unsqueeze(0))[0][-1].argmax().item<int64_t>();
      written.push_back(w);
      text.push_back(w);
      if (w != trial.prompt[2]) continue;  // no token of the needle
      const Tensor maps = patterns(model, ids, layer);
      for (int64_t h = 0; h < 3; ++h) {
        const int64_t j = maps[h][-1].argmax().item<int64_t>();
        if (2 <= j && j <= 8) places[static_cast<size_t>(h)].insert(j);
      }
    }
    if (found_of(trial.answer, written) <= 0.5) continue;
    ++kept;
    for (size_t h = 0; h < 3; ++h) {
      hits[h] += static_cast<double>(places[h].size()) / 7;
      const std::set<int64_t> distinct(places[h].begin(), places[h].end());
      shares[h] += static_cast<double>(distinct.size()) / 7;
    }
  }
  EXPECT_EQ(kept, std::ssize(trials) - 1);
  const double n = static_cast<double>(kept);
  for (const RetrievalScores& found : ways) {
    EXPECT_EQ(found.trials, std::ssize(trials));
    EXPECT_EQ(found.kept, kept);
    for (size_t h = 0; h < 2; ++h) {
      EXPECT_NEAR(found.heads[h].hits, hits[h] / n, 1e-12);
      EXPECT_NEAR(found.heads[h].share, shares[h] / n, 1e-12);
    }
    EXPECT_NEAR(found.heads[2].hits, (hits[0] + hits[1] + hits[2]) / n / 3, 1e-12);
    // Of these models all but one write a word of a needle that a head is looking at.
    EXPECT_EQ(found.heads[2].hits > 0, GetParam() != "falcon_h1");
  }
}

TEST(HeadScores, RepeatedTokensAreTheSameEverywhere) {
  const Tensor ids = repeated_tokens(1000, 2, 4, 0);
  EXPECT_EQ(ids.sizes(), (std::vector<int64_t>{2, 8}));
  EXPECT_TRUE(at::equal(ids.slice(1, 0, 4), ids.slice(1, 4, 8)));
  EXPECT_FALSE(at::equal(ids[0], ids[1]));
  // The first of the standard's generator with seed 0: 2947667278772165694.
  EXPECT_EQ(ids[0][0].item<int64_t>(), 694);
}

TEST(HeadScores, SaysWhatIsWrong) {
  const LanguageModel model = load_model("llama");
  EXPECT_EQ(
      error_message<ShapeError>([&] {
        pattern_scores(model, at::zeros({1, 1}, at::kLong), {{0, 0, 0}});
      }),
      "[pattern_scores] ids, expected int64 [prompt, pos] with 2 positions, got [1, 1] of Long");
  EXPECT_EQ(error_message<TaskError>([&] {
              retrieval_scores(model, {{{1, 2}, {1, 2}, {3}}}, {{0, 0, 0}});
            }),
            "[retrieval_scores] needle of trial 0, expected within 2 tokens, got 1 to 2");
  EXPECT_EQ(error_message<HookError>([&] {
              pattern_scores(model, repeated_tokens(5, 1, 3, 0), {{0, 4, 4}});
            }),
            "[ablate] head, expected 0..3 in layer 0, got 4");
}

}  // namespace
}  // namespace headlens
