// headlens/tasks: choices scored by the log-probability of their tokens, many examples a forward.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/core/kept_steps.h"
#include "headlens/model/objective.h"
#include "headlens/tasks/types.h"

namespace headlens {

class LanguageModel;
class Tap;

/// Where each choice of one example finds its tokens among a batch's picks.
struct ChoicePicks {
  int64_t begin = 0;            ///< first pick of the first choice
  std::vector<int64_t> counts;  ///< picks of each choice, one after the other
  int64_t answer = 0;           ///< index of the right choice
};

/// Sequences to be run together, and how to read scores off their logits.
///
/// A row is prompt + a choice without its last token; rows that are a prefix of another row of the
/// same example are left out, so single-token choices share the one row that is the prompt. Rows
/// are padded on the right with id 0: models here are causal, so padding cannot change an earlier
/// position. Rows of one example are neighbours.
struct ScoringBatch {
  ObjectiveBatch rows;               ///< what is run
  Tensor picks;                      ///< [3, pick] int64: row, slot in logit_positions, token id
  std::vector<ChoicePicks> choices;  ///< [i], of example rows.examples[i]
  int64_t max_token = 0;             ///< largest id among the picks
};

/// Groups examples of like length until a batch holds `max_tokens` row x pos (one example at the
/// least). Eight or more whose prompts have half of their tokens in common, from the first on, come
/// in batches of their own, where that half is run once (headlens/model/row_fork.h) and counts once
/// (a batch holds up to four times `max_tokens` then). Every example is in exactly one batch; equal
/// lengths keep their order.
std::vector<ScoringBatch> make_batches(const std::vector<TokenizedExample>& examples,
                                       int64_t max_tokens);

/// Log-probabilities of every choice, nats, from logits [variants * row, slot, vocab],
/// variant-major: returns [variant][i][choice] for example rows.examples[i]. The softmax is taken
/// in float64 on the CPU and in at least float32 elsewhere; sums are in double. ShapeError for
/// another shape, TaskError for logits that are NaN.
std::vector<std::vector<std::vector<double>>> choice_logprobs(const Tensor& logits,
                                                              const ScoringBatch& batch,
                                                              int64_t variants = 1);

/// The log-odds ln p - ln(1 - p) of the right choice of each example, p the probability of its
/// tokens: [i] float64, from logits [row, slot, vocab] and differentiable in them. Exact where ln p
/// would round to 0. ShapeError for another shape.
Tensor answer_log_odds(const Tensor& logits, const ScoringBatch& batch);

/// The same from the log-probabilities of the batch's picks, [variants, pick] float64 on the CPU
/// (as `token_logprobs` gives them).
std::vector<std::vector<std::vector<double>>> choice_logprobs_of_picks(const Tensor& logprobs,
                                                                       const ScoringBatch& batch);

/// The verdict on one example: the first maximum wins.
Verdict judge_choices(const std::vector<double>& logprobs, int64_t answer);

/// Whether the answer's log-probability divided by its length is the largest; the first maximum
/// wins.
bool judge_normalized(const std::vector<double>& logprobs, const std::vector<int64_t>& lengths,
                      int64_t answer);

/// How `evaluate` runs.
struct EvalOptions {
  int64_t max_batch_tokens = 16384;  ///< row x pos of one forward
  Tap* tap = nullptr;                ///< visited in every forward
  std::function<void(int64_t done, int64_t total)> progress =
      {};                ///< in examples; may throw to stop
  KeptSteps steps = {};  ///< a batch is a step; a tap does not see those that were kept
};

/// Runs every prompt once; choices of several tokens go on from its state (without a tap, which
/// sees whole rows). Logits are made a few rows at a time. Throws TaskError if there is none.
EvalResult evaluate(const LanguageModel& model, const std::vector<TokenizedExample>& examples,
                    const EvalOptions& options = {});

/// Sums up verdicts in example order; `chance` is the mean of 1 / choices.
EvalResult summarize(const std::vector<Verdict>& verdicts, double chance);

}  // namespace headlens
