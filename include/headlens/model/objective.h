// headlens/model: what tasks hand to analysis: batches of prompts, and a verdict from their logits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "headlens/core/dtype.h"

namespace headlens {

/// Token positions start .. end of a prompt, both included; `end` is the segment's summary token.
struct PromptSegment {
  int64_t start = 0;  ///< first token
  int64_t end = 0;    ///< last token, included
};

/// Sequences run together, padded on the right. In a causal model padding there changes no earlier
/// position.
struct ObjectiveBatch {
  Tensor ids;                     ///< [row, pos] int64
  Tensor logit_positions;         ///< [row, n] int64: the only positions whose logits are judged
  std::vector<int64_t> examples;  ///< the examples judged from this batch
  /// The first row of each of them, rising from 0. All rows up to the next example's begin with its
  /// prompt.
  std::vector<int64_t> example_rows;
};

/// Two choices closer than this (nats) are a near tie: other rounding may swap them.
inline constexpr double kNearTie = 1e-3;

/// How one example came out.
struct Verdict {
  bool correct = false;              ///< the right choice was the best
  double logprob = 0;                ///< of the right choice, nats
  double margin = 0;                 ///< best choice minus second best, nats (>= 0)
  std::vector<double> numbers = {};  ///< what a custom objective says of the example; may be empty
};

/// The prompt of one example, as map statistics need it.
struct PromptInfo {
  int64_t length = 0;                   ///< tokens; the last one, length - 1, is q
  std::vector<PromptSegment> segments;  ///< may be empty
  int64_t target_segment = -1;          ///< the segment with the answer's index, -1: none
  std::vector<std::string> tokens;      ///< text of each token, for reports
};

/// A task made ready for a model. Tasks produce it, analysis takes it; neither knows the other.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual int64_t example_count() const = 0;  ///< of all batches
  virtual int64_t batch_count() const = 0;    ///< how many
  /// One batch, 0 .. batch_count() - 1.
  virtual const ObjectiveBatch& batch(int64_t index) const = 0;
  /// The prompt of one example, 0 .. example_count() - 1.
  virtual const PromptInfo& prompt(int64_t example) const = 0;
  /// Judges `variants` copies of a batch at once: logits [variants * row, n, vocab], variant-major.
  /// Returns [variant][i] for the batch's examples i.
  virtual std::vector<std::vector<Verdict>> judge(int64_t batch, const Tensor& logits,
                                                  int64_t variants) const = 0;
  /// What attribution differentiates: the log-odds ln p - ln(1 - p) of the right choice of each of
  /// the batch's examples i, [i] float64, a differentiable function of logits [row, n, vocab]. ln p
  /// is the `logprob` of its verdict. TaskError unless the objective has such a thing.
  virtual Tensor answer_log_odds(int64_t batch, const Tensor& logits) const;
  /// These examples as an objective of their own, in this order: what a search looks at before it
  /// looks at all. Null: it cannot be split.
  virtual std::shared_ptr<const Objective> part(const std::vector<int64_t>& /*examples*/) const {
    return nullptr;
  }
  /// The tokens whose log-probabilities are all that a verdict needs, int64 [3, pick] on the CPU:
  /// row, slot in `logit_positions`, token id. Undefined: it needs whole logits. Where defined, a
  /// caller may make the logits a few at a time and use `judge_tokens` in place of `judge`.
  virtual Tensor judged_tokens(int64_t /*batch*/) const { return {}; }
  /// Judges by these log-probabilities, [variants, pick] float64 on the CPU; returns as `judge`.
  virtual std::vector<std::vector<Verdict>> judge_tokens(int64_t /*batch*/,
                                                         const Tensor& /*logprobs*/) const {
    return {};
  }
};

/// Some of a task's examples as an objective of their own.
struct ObjectivePart {
  std::shared_ptr<const Objective> objective;  ///< of those examples
  std::vector<int64_t> examples;               ///< [example of the part] its number in the whole
};

}  // namespace headlens
