// headlens/analysis: any function of logits as the objective of a sweep.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/model/objective.h"

namespace headlens {

/// One prompt of a custom objective.
struct FunctionExample {
  std::vector<int64_t> ids;  ///< token ids
  /// Where logits are needed, as many in every example; -1 is the last token.
  std::vector<int64_t> positions = {-1};
  std::vector<PromptSegment> segments = {};  ///< for cuts that name segments
};

/// logits [example, n, vocab] of one variant, on the model's device, and which examples they are ->
/// one number an example, [example], or several, [example, k].
using LogitFunction =
    std::function<Tensor(const Tensor& logits, const std::vector<int64_t>& examples)>;

/// Each variant's verdict on an example holds the function's `numbers`; `logprob` is the first of
/// them, so a sweep's `logprob_drop` is its mean fall. `correct` is false and `margin` infinite.
class FunctionObjective final : public Objective {
 public:
  /// Batches prompts of like length up to `max_batch_tokens` row x pos. TaskError for no example,
  /// an empty prompt, or positions that are not in it or differ in number.
  FunctionObjective(const std::vector<FunctionExample>& examples, LogitFunction function,
                    int64_t max_batch_tokens = 4096);

  int64_t example_count() const override;
  int64_t batch_count() const override;
  const ObjectiveBatch& batch(int64_t index) const override;
  const PromptInfo& prompt(int64_t example) const override;
  /// TaskError if the function gives another shape, or a number that is none.
  std::vector<std::vector<Verdict>> judge(int64_t batch, const Tensor& logits,
                                          int64_t variants) const override;

 private:
  LogitFunction function_;
  std::vector<PromptInfo> prompts_;
  std::vector<ObjectiveBatch> batches_;
};

}  // namespace headlens
