// headlens/analysis: the rows of a batch: their examples, where their prompts end, copies of them.
#include "analysis/batch_rows.h"

#include <ATen/ATen.h>

#include "headlens/hooks/interventions.h"

namespace headlens {

Tensor example_of_rows(const ObjectiveBatch& batch) {
  std::vector<int64_t> example(static_cast<size_t>(batch.ids.size(0)), 0);
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const auto begin = example.begin() + batch.example_rows[i];
    std::fill(begin, example.end(), static_cast<int64_t>(i));
  }
  return at::tensor(example, at::kLong);
}

Tensor query_of_rows(const Objective& objective, const ObjectiveBatch& batch) {
  std::vector<int64_t> query;
  for (const int64_t example : batch.examples) {
    query.push_back(objective.prompt(example).length - 1);
  }
  return at::tensor(query, at::kLong).index_select(0, example_of_rows(batch));
}

Tensor segments_of_rows(const Objective& objective, const ObjectiveBatch& batch) {
  std::vector<Tensor> masks;
  for (const int64_t example : batch.examples) {
    masks.push_back(mask_of_segments(batch.ids.size(1), objective.prompt(example).segments));
  }
  return at::stack(masks).index_select(0, example_of_rows(batch));
}

Tensor repeated_rows(const Tensor& values, int64_t copies) {
  std::vector<int64_t> times(static_cast<size_t>(values.dim()), 1);
  times[0] = copies;
  return values.repeat(times);
}

Prompt repeated_rows(const Prompt& prompt, int64_t copies) {
  Prompt repeated = prompt;
  if (prompt.embedding.defined()) repeated.embedding = repeated_rows(prompt.embedding, copies);
  return repeated;
}

}  // namespace headlens
