// headlens/analysis: what each head and MLP writes along the answer's direction in the residual.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <vector>

#include "headlens/analysis/self_repair.h"
#include "headlens/model/language_model.h"
#include "headlens/model/site.h"

namespace headlens {

/// The row of each example of a batch that begins with its prompt, and its last prompt token.
struct QueryRows {
  Tensor rows, queries;                     // [example] int64
  Tensor take(const Tensor& values) const;  // [row, pos, ..] -> [example, ..]
};
QueryRows query_rows(const Objective& objective, const ObjectiveBatch& batch);

/// Keeps, of every mixer's head outputs and every MLP's output that goes to the residual, what
/// stands at the queries: [example, ..].
class WritesTap final : public Tap {
 public:
  WritesTap(const ModelConfig& config, QueryRows at);
  bool wants(TapPoint point) const override { return points_.contains(point); }
  Tensor visit(TapPoint point, Tensor value) override {
    writes[point] = at_.take(value);
    return value;
  }

  std::map<TapPoint, Tensor> writes;

 private:
  std::set<TapPoint> points_;
  QueryRows at_;
};

/// The answers' directions: the logit difference is `unembed` . normalized + a constant, and, with
/// the norm's scale frozen, `residual` . resid + a constant.
struct AnswerDirections {
  Tensor unembed;   // [example, d_model], at least float32
  Tensor residual;  // [example, d_model]
};
/// `scale` [example, 1]: that of the final norm in the clean run.
AnswerDirections answer_directions(const LanguageModel& model,
                                   const std::vector<AnswerTokens>& answers, const Tensor& scale);

/// The direct effects of all heads of one mixer: `outputs` [example, head..] -> [example, head].
Tensor head_effects(const LanguageModel& model, int64_t layer, const HeadBank& bank,
                    const Tensor& outputs, const Tensor& direction);

/// HookError, said by `where`, for a model with a norm between mixer and residual.
void check_direct_writes(const char* where, const ModelConfig& config);
/// TaskError for fewer than two examples and for one without another answer, ShapeError for answers
/// that do not fit.
void check_answers(const char* where, const ModelConfig& config, const Objective& objective,
                   const std::vector<AnswerTokens>& answers);

}  // namespace headlens
