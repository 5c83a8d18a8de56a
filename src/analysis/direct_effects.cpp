// headlens/analysis: what each head and MLP writes along the answer's direction in the residual.
#include "analysis/direct_effects.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/check.h"

namespace headlens {
namespace {

Tensor precise(const Tensor& x) {
  return x.to(at::promote_types(x.scalar_type(), at::kFloat));
}

}  // namespace

Tensor QueryRows::take(const Tensor& values) const {
  return values.index({rows.to(values.device()), queries.to(values.device())});
}

QueryRows query_rows(const Objective& objective, const ObjectiveBatch& batch) {
  std::vector<int64_t> queries;
  for (const int64_t example : batch.examples) {
    queries.push_back(objective.prompt(example).length - 1);
  }
  return {at::tensor(batch.example_rows, at::kLong), at::tensor(queries, at::kLong)};
}

WritesTap::WritesTap(const ModelConfig& config, QueryRows at) : at_(std::move(at)) {
  for (int64_t i = 0; i < std::ssize(config.layers); ++i) {
    const LayerSpec& layer = config.layers[static_cast<size_t>(i)];
    const bool shared = layer.wiring == Wiring::SharedBlock;  // its own parts write to its mixer
    for (const HeadBank& bank : head_banks(layer)) {
      const bool attention = bank.kind == LayerKind::Attention;
      if (!(shared && attention)) points_.insert({attention ? Site::Z : Site::MixerZ, i});
    }
    if (layer.mlp && !shared) points_.insert({Site::MlpOut, i});
  }
}

AnswerDirections answer_directions(const LanguageModel& model,
                                   const std::vector<AnswerTokens>& answers, const Tensor& scale) {
  const Tensor& lm_head = model.lm_head();
  std::vector<Tensor> differences;
  for (const AnswerTokens& tokens : answers) {
    const Tensor others = at::tensor(tokens.others, at::kLong).to(lm_head.device());
    differences.push_back(precise(lm_head[tokens.answer]) -
                          precise(lm_head.index_select(0, others)).mean(0));
  }
  const Tensor unembed = at::stack(differences) * model.config().logit_scale;
  const Norm& norm = model.final_norm();
  Tensor weight = precise(norm.weight());
  if (norm.kind() == NormKind::RmsPlusOne) weight = weight + 1;
  Tensor residual = unembed * weight;
  // A layer norm takes the mean off what is written: so does a direction without one.
  if (norm.kind() == NormKind::Layer) residual = residual - residual.mean(-1, /*keepdim=*/true);
  return {unembed, residual / precise(scale)};
}

Tensor head_effects(const LanguageModel& model, int64_t layer, const HeadBank& bank,
                    const Tensor& outputs, const Tensor& direction) {
  // The columns of a mixer's heads stand side by side: those of all heads, as one view.
  const Tensor first = model.head_output_weight(layer, bank.first);
  const Tensor columns = first.as_strided({first.size(0), bank.count * bank.width}, first.strides(),
                                          first.storage_offset());
  const Tensor written = at::matmul(direction.to(columns.device()), precise(columns));
  const Tensor along = precise(outputs).flatten(1) * written.to(outputs.device());
  return along.unflatten(1, {bank.count, bank.width}).sum(-1) * bank.out_scale;
}

void check_direct_writes(const char* where, const ModelConfig& config) {
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const Wiring wiring = config.layers[i].wiring;
    HEADLENS_CHECK(HookError, wiring != Wiring::PostNorm && wiring != Wiring::SandwichNorm,
                   "[{}] layer {}, expected heads that write straight to the residual, "
                   "got a norm between",
                   where, i);
  }
}

void check_answers(const char* where, const ModelConfig& config, const Objective& objective,
                   const std::vector<AnswerTokens>& answers) {
  const int64_t examples = objective.example_count(), vocab = config.vocab_size;
  HEADLENS_CHECK(TaskError, examples >= 2, "[{}] examples, expected at least 2, got {}", where,
                 examples);
  HEADLENS_CHECK(ShapeError, std::ssize(answers) == examples,
                 "[{}] answers, expected {}, one for each example, got {}", where, examples,
                 answers.size());
  const auto exists = [&](int64_t id) { return 0 <= id && id < vocab; };
  for (size_t i = 0; i < answers.size(); ++i) {
    const std::vector<int64_t>& others = answers[i].others;
    HEADLENS_CHECK(TaskError, !others.empty(),
                   "[{}] example {}, expected another answer that begins with another "
                   "token, got none",
                   where, i);
    HEADLENS_CHECK(
        ShapeError, exists(answers[i].answer) && std::all_of(others.begin(), others.end(), exists),
        "[{}] answer tokens of example {}, expected 0 to {}, got another", where, i, vocab - 1);
  }
}

}  // namespace headlens
