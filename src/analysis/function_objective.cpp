// headlens/analysis: any function of logits as the objective of a sweep.
#include "headlens/analysis/function_objective.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"

namespace headlens {
namespace {

void check_examples(const std::vector<FunctionExample>& examples) {
  HEADLENS_CHECK(TaskError, !examples.empty(),
                 "[objective] examples, expected at least one, got {}", "none");
  for (size_t i = 0; i < examples.size(); ++i) {
    const auto& [ids, positions, segments] = examples[i];
    const int64_t length = std::ssize(ids);
    HEADLENS_CHECK(TaskError, length > 0, "[objective] example {}, expected tokens, got none", i);
    const size_t count = examples.front().positions.size();
    HEADLENS_CHECK(TaskError, count > 0 && positions.size() == count,
                   "[objective] positions of example {}, expected {} as in the first, got {}", i,
                   std::max<size_t>(count, 1), positions.size());
    for (const int64_t position : positions) {
      HEADLENS_CHECK(TaskError, -length <= position && position < length,
                     "[objective] position of example {}, expected {} to {}, got {}", i, -length,
                     length - 1, position);
    }
  }
}

ObjectiveBatch make_batch(const std::vector<FunctionExample>& examples,
                          const std::vector<int64_t>& members) {
  ObjectiveBatch batch;
  std::vector<Tensor> ids, positions;
  for (const int64_t member : members) {
    const FunctionExample& example = examples[static_cast<size_t>(member)];
    ids.push_back(at::tensor(example.ids, at::kLong));
    const Tensor given = at::tensor(example.positions, at::kLong);
    positions.push_back(at::where(given.lt(0), given + std::ssize(example.ids), given));
    batch.example_rows.push_back(std::ssize(batch.examples));
    batch.examples.push_back(member);
  }
  batch.ids = at::pad_sequence(ids, /*batch_first=*/true);
  batch.logit_positions = at::stack(positions);
  return batch;
}

}  // namespace

FunctionObjective::FunctionObjective(const std::vector<FunctionExample>& examples,
                                     LogitFunction function, int64_t max_batch_tokens)
    : function_(std::move(function)) {
  check_examples(examples);
  HEADLENS_CHECK(TaskError, function_ != nullptr,
                 "[objective] function of the logits, expected one, got {}", "none");
  for (const FunctionExample& example : examples) {
    prompts_.push_back({std::ssize(example.ids), example.segments, -1, {}});
  }
  std::vector<int64_t> order(examples.size()), members;
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto length = [&](int64_t i) { return prompts_[static_cast<size_t>(i)].length; };
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length(a) < length(b); });
  for (const int64_t i : order) {
    if (!members.empty() && (std::ssize(members) + 1) * length(i) > max_batch_tokens) {
      batches_.push_back(make_batch(examples, members));
      members.clear();
    }
    members.push_back(i);
  }
  batches_.push_back(make_batch(examples, members));
}

int64_t FunctionObjective::example_count() const {
  return std::ssize(prompts_);
}

int64_t FunctionObjective::batch_count() const {
  return std::ssize(batches_);
}

const ObjectiveBatch& FunctionObjective::batch(int64_t index) const {
  return batches_.at(static_cast<size_t>(index));
}

const PromptInfo& FunctionObjective::prompt(int64_t example) const {
  return prompts_.at(static_cast<size_t>(example));
}

std::vector<std::vector<Verdict>> FunctionObjective::judge(int64_t index, const Tensor& logits,
                                                           int64_t variants) const {
  const std::vector<int64_t>& examples = batch(index).examples;
  const int64_t count = std::ssize(examples);
  std::vector<Tensor> parts;
  for (int64_t v = 0; v < variants; ++v) {
    const Tensor numbers = function_(logits.narrow(0, v * count, count), examples);
    const bool fits = numbers.defined() && numbers.dim() >= 1 && numbers.dim() <= 2 &&
                      numbers.size(0) == count && numbers.numel() > 0;
    HEADLENS_CHECK(TaskError, fits, "[objective] numbers, expected [{}] or [{}, k], got {}", count,
                   count, numbers.defined() ? shape_string(numbers.sizes()) : "none");
    parts.push_back(numbers.reshape({count, -1}));
  }
  const Tensor all = at::stack(parts).to(at::kCPU, at::kDouble).contiguous();  // one copy out
  const auto values = all.accessor<double, 3>();
  std::vector<std::vector<Verdict>> verdicts(static_cast<size_t>(variants));
  for (int64_t v = 0; v < variants; ++v) {
    for (int64_t i = 0; i < count; ++i) {
      Verdict verdict{false, values[v][i][0], INFINITY};
      for (int64_t k = 0; k < all.size(2); ++k) {
        HEADLENS_CHECK(TaskError, !std::isnan(values[v][i][k]),
                       "[objective] example {}, expected a number, got not a number",
                       examples[static_cast<size_t>(i)]);
        verdict.numbers.push_back(values[v][i][k]);
      }
      verdicts[static_cast<size_t>(v)].push_back(std::move(verdict));
    }
  }
  return verdicts;
}

}  // namespace headlens
