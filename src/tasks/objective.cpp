// headlens/tasks: a task as the objective that analysis takes.
#include "headlens/tasks/objective.h"

#include <ATen/ATen.h>

#include <numeric>

#include "core/check.h"
#include "headlens/tasks/corrupted.h"
#include "headlens/tasks/scoring.h"
#include "tasks/draw.h"

namespace headlens {
namespace {

/// Takes its tokens.
PromptInfo prompt_info(TokenizedExample& example) {
  PromptInfo info;
  info.length = std::ssize(example.prompt_ids);
  for (const Segment& segment : example.segments) {
    info.segments.push_back({segment.start, segment.end});
  }
  if (info.segments.size() == example.choice_ids.size()) info.target_segment = example.answer;
  info.tokens = std::move(example.tokens);
  return info;
}

/// Puts the prompts and answers of `others` in the place of those of `examples`.
void put_prompts(const std::vector<TokenizedExample>& examples,
                 const std::vector<TokenizedExample>& others, ScoringBatch& batch) {
  ObjectiveBatch& rows = batch.rows;
  rows.ids = rows.ids.clone();
  for (size_t i = 0; i < rows.examples.size(); ++i) {
    const auto e = static_cast<size_t>(rows.examples[i]);
    const auto& prompt = others[e].prompt_ids;
    HEADLENS_CHECK(TaskError,
                   prompt.size() == examples[e].prompt_ids.size() &&
                       others[e].choice_ids == examples[e].choice_ids,
                   "[objective] corrupted example {}, expected as many tokens and the same choices "
                   "as the clean one, got others",
                   e);
    const int64_t first = rows.example_rows[i];
    const int64_t end = i + 1 < rows.examples.size() ? rows.example_rows[i + 1] : rows.ids.size(0);
    rows.ids.slice(0, first, end)
        .slice(1, 0, std::ssize(prompt))
        .copy_(at::tensor(prompt, at::kLong));
    batch.choices[i].answer = others[e].answer;
  }
}

class ChoiceObjective final : public Objective {
 public:
  ChoiceObjective(std::vector<ScoringBatch> batches, std::vector<TokenizedExample> examples,
                  int64_t max_batch_tokens)
      : batches_(std::move(batches)),
        examples_(std::move(examples)),
        max_batch_tokens_(max_batch_tokens) {
    for (TokenizedExample& example : examples_) prompts_.push_back(prompt_info(example));
  }

  int64_t example_count() const override { return std::ssize(prompts_); }
  int64_t batch_count() const override { return std::ssize(batches_); }
  const ObjectiveBatch& batch(int64_t index) const override { return scoring(index).rows; }
  const PromptInfo& prompt(int64_t example) const override {
    return prompts_.at(static_cast<size_t>(example));
  }

  std::vector<std::vector<Verdict>> judge(int64_t batch, const Tensor& logits,
                                          int64_t variants) const override {
    return verdicts(batch, choice_logprobs(logits, scoring(batch), variants));
  }

  Tensor judged_tokens(int64_t batch) const override { return scoring(batch).picks; }
  std::vector<std::vector<Verdict>> judge_tokens(int64_t batch,
                                                 const Tensor& logprobs) const override {
    return verdicts(batch, choice_logprobs_of_picks(logprobs, scoring(batch)));
  }

  std::shared_ptr<const Objective> part(const std::vector<int64_t>& examples) const override {
    std::vector<TokenizedExample> some;
    for (const int64_t e : examples) {
      some.push_back(examples_.at(static_cast<size_t>(e)));
      some.back().tokens = prompt(e).tokens;
    }
    return make_choice_objective(std::move(some), max_batch_tokens_);
  }

  Tensor answer_log_odds(int64_t batch, const Tensor& logits) const override {
    return headlens::answer_log_odds(logits, scoring(batch));
  }

 private:
  using Scores = std::vector<std::vector<std::vector<double>>>;  // [variant][i][choice]

  std::vector<std::vector<Verdict>> verdicts(int64_t batch, const Scores& scores) const {
    const ScoringBatch& rows = scoring(batch);
    std::vector<std::vector<Verdict>> out;
    for (const auto& examples : scores) {
      std::vector<Verdict>& verdicts = out.emplace_back();
      for (size_t i = 0; i < examples.size(); ++i) {
        verdicts.push_back(judge_choices(examples[i], rows.choices[i].answer));
      }
    }
    return out;
  }

  const ScoringBatch& scoring(int64_t index) const {
    return batches_.at(static_cast<size_t>(index));
  }

  std::vector<ScoringBatch> batches_;
  std::vector<TokenizedExample> examples_;  // without the text of their tokens
  int64_t max_batch_tokens_;
  std::vector<PromptInfo> prompts_;
};

}  // namespace

std::unique_ptr<Objective> make_choice_objective(std::vector<TokenizedExample> examples,
                                                 int64_t max_batch_tokens) {
  HEADLENS_CHECK(TaskError, !examples.empty(),
                 "[objective] examples, expected at least one, got none");
  std::vector<ScoringBatch> batches = make_batches(examples, max_batch_tokens);
  return std::make_unique<ChoiceObjective>(std::move(batches), std::move(examples),
                                           max_batch_tokens);
}

ObjectivePair make_choice_pair(std::vector<TokenizedExample> clean,
                               std::vector<TokenizedExample> corrupted, int64_t max_batch_tokens) {
  HEADLENS_CHECK(TaskError, !clean.empty() && clean.size() == corrupted.size(),
                 "[objective] corrupted examples, expected {}, at least one, got {}", clean.size(),
                 corrupted.size());
  const std::vector<ScoringBatch> batches = make_batches(clean, max_batch_tokens);
  std::vector<ScoringBatch> others = batches;
  for (ScoringBatch& batch : others) put_prompts(clean, corrupted, batch);
  return {std::make_unique<ChoiceObjective>(batches, std::move(clean), max_batch_tokens),
          std::make_unique<ChoiceObjective>(others, std::move(corrupted), max_batch_tokens)};
}

std::vector<ObjectivePart> make_choice_parts(const std::vector<TokenizedExample>& examples,
                                             int64_t size, uint64_t seed,
                                             int64_t max_batch_tokens) {
  HEADLENS_CHECK(UsageError, size > 0, "[objective] examples a part, expected at least 1, got {}",
                 size);
  HEADLENS_CHECK(TaskError, !examples.empty(),
                 "[objective] examples, expected at least one, got none");
  std::vector<int64_t> order(examples.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  Draw draw(seed);
  for (size_t i = order.size() - 1; i > 0; --i) {
    std::swap(order[i], order[static_cast<size_t>(draw.below(static_cast<int64_t>(i) + 1))]);
  }
  std::vector<ObjectivePart> parts;
  for (int64_t first = 0; first < std::ssize(order); first += size) {
    const int64_t end = std::min(first + size, std::ssize(order));
    ObjectivePart& part = parts.emplace_back();
    std::vector<TokenizedExample> some;
    for (int64_t i = first; i < end; ++i) {
      part.examples.push_back(order[static_cast<size_t>(i)]);
      some.push_back(examples[static_cast<size_t>(part.examples.back())]);
    }
    part.objective = make_choice_objective(std::move(some), max_batch_tokens);
  }
  return parts;
}

}  // namespace headlens
