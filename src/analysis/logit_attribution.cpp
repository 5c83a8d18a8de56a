// headlens/analysis: what of the answer's logit difference each part of a model writes.
#include "headlens/analysis/logit_attribution.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>

#include "analysis/batch_slots.h"
#include "analysis/direct_effects.h"
#include "analysis/judged_run.h"
#include "analysis/paired_means.h"
#include "analysis/path_taps.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/hooks/hook_set.h"

namespace headlens {
namespace {

using Values = std::vector<double>;  // [example]

constexpr TapPoint kFinalScale{Site::FinalScale, -1};
constexpr TapPoint kFinalNormalized{Site::FinalNormalized, -1};

Tensor on_host(const Tensor& x) {
  return x.to(at::kCPU).to(at::kDouble);
}

/// a . b of each example, [example] in float64 on the CPU.
Tensor along(const Tensor& a, const Tensor& b) {
  const at::ScalarType precise = at::promote_types(a.scalar_type(), b.scalar_type());
  return on_host((a.to(precise) * b.to(a.device()).to(precise)).sum(-1));
}

/// Silences every head that a tap can, so that mixers write their biases alone.
class Silence final : public Tap {
 public:
  bool wants(TapPoint point) const override {
    return point.site == Site::Z || point.site == Site::MixerZ;
  }
  Tensor visit(TapPoint, Tensor value) override { return at::zeros_like(value); }
};

/// Where a bank's output projection writes to the residual; nothing for one that does not.
std::optional<TapPoint> written_at(const LayerSpec& layer, const HeadBank& bank, int64_t index) {
  const bool attention = bank.kind == LayerKind::Attention;
  if (attention && layer.wiring == Wiring::SharedBlock) return std::nullopt;
  return TapPoint{attention ? Site::AttnOut : Site::MixerOut, index};
}

class Attribution {
 public:
  Attribution(const LanguageModel& model, const Objective& objective,
              const std::vector<AnswerTokens>& answers, const LogitOptions& options);
  LogitAttribution run();

 private:
  void run_batch(int64_t index);
  void read_lens(int64_t layer, const Tensor& last, const ObjectiveBatch& batch,
                 const Tensor& unembed);
  void add_layer(int64_t layer, const WritesTap& tap, const ObjectiveBatch& batch,
                 const Tensor& direction);
  Tensor bias_of(int64_t layer, const Tensor& resid, const Prompt& prompt) const;
  void put(const Tensor& of_batch, const ObjectiveBatch& batch, Values& values) const;
  LogitAttribution result() const;

  /// Of a layer, -1 first, in the lens.
  struct Lens {
    Values difference, correct, logprob;
  };

  const LanguageModel& model_;
  const Objective& objective_;
  const std::vector<AnswerTokens>& answers_;
  const LogitOptions& options_;
  Values difference_, embedding_, norm_bias_;
  std::vector<HeadId> entries_;  // heads that write to the residual
  std::vector<Values> heads_;    // [entry]
  std::map<int64_t, Values> mlps_, biases_;
  std::vector<Lens> lens_;  // [1 + layer]
};

Attribution::Attribution(const LanguageModel& model, const Objective& objective,
                         const std::vector<AnswerTokens>& answers, const LogitOptions& options)
    : model_(model), objective_(objective), answers_(answers), options_(options) {
  const Values none(answers.size(), 0.0);
  difference_ = embedding_ = norm_bias_ = none;
  lens_.assign(static_cast<size_t>(model.layer_count()) + 1, {none, none, none});
  for (const HeadId& head : all_heads(model.config(), options.mamba1_groups)) {
    const LayerSpec& layer = model.config().layers[static_cast<size_t>(head.layer)];
    if (!written_at(layer, bank_of(layer, head.first), head.layer)) continue;
    entries_.push_back(head);
    biases_[head.layer] = none;
  }
  heads_.assign(entries_.size(), none);
  for (int64_t i = 0; i < model.layer_count(); ++i) {
    const LayerSpec& layer = model.config().layers[static_cast<size_t>(i)];
    if (layer.mlp && layer.wiring != Wiring::SharedBlock) mlps_[i] = none;
  }
}

void Attribution::put(const Tensor& of_batch, const ObjectiveBatch& batch, Values& values) const {
  const auto read = of_batch.accessor<double, 1>();
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    values[static_cast<size_t>(batch.examples[i])] = read[static_cast<int64_t>(i)];
  }
}

void Attribution::read_lens(int64_t layer, const Tensor& last, const ObjectiveBatch& batch,
                            const Tensor& unembed) {
  KeepSites norm({kFinalNormalized});
  const Tensor logprobs = on_host(at::log_softmax(
      model_.unembed(last, &norm).to(at::promote_types(last.scalar_type(), at::kFloat)), -1));
  Lens& lens = lens_[static_cast<size_t>(layer + 1)];
  put(along(norm.kept.at(kFinalNormalized), unembed), batch, lens.difference);
  for (size_t i = 0; i < batch.examples.size(); ++i) {
    const auto example = static_cast<size_t>(batch.examples[i]);
    const Tensor row = logprobs[static_cast<int64_t>(i)];
    const double answer = row[answers_[example].answer].item<double>();
    const Tensor others = row.index_select(0, at::tensor(answers_[example].others, at::kLong));
    lens.correct[example] = answer > others.max().item<double>();
    lens.logprob[example] = answer;
  }
}

/// What a layer's mixers write with all their heads silent, [d_model]: the same at every position
/// of every prompt, so one token tells.
Tensor Attribution::bias_of(int64_t layer, const Tensor& resid, const Prompt& prompt) const {
  const LayerSpec& spec = model_.config().layers[static_cast<size_t>(layer)];
  std::set<TapPoint> points;
  for (const HeadBank& bank : head_banks(spec)) {
    if (const auto point = written_at(spec, bank, layer)) points.insert(*point);
  }
  Silence silence;
  KeepSites keep(points);
  TapChain taps({&silence, &keep});
  Prompt first = prompt;
  first.tables = nullptr;  // those of other positions
  const auto one_token = [](const Tensor& x) { return x.slice(0, 0, 1).slice(1, 0, 1); };
  if (first.embedding.defined()) first.embedding = one_token(first.embedding);
  model_.run_layers(one_token(resid), layer, layer + 1, &taps, nullptr, first);
  Tensor sum = at::zeros({model_.config().d_model}, at::kDouble);
  for (const auto& [point, value] : keep.kept) sum += on_host(value.flatten());
  return sum;
}

void Attribution::add_layer(int64_t layer, const WritesTap& tap, const ObjectiveBatch& batch,
                            const Tensor& direction) {
  std::vector<Tensor> banks;
  for (const HeadBank& bank : head_banks(model_.config().layers[static_cast<size_t>(layer)])) {
    const Site site = bank.kind == LayerKind::Attention ? Site::Z : Site::MixerZ;
    const auto seen = tap.writes.find({site, layer});
    banks.push_back(seen == tap.writes.end()  // a shared block's attention writes to its mixer
                        ? at::zeros({direction.size(0), bank.count}, at::kDouble)
                        : on_host(head_effects(model_, layer, bank, seen->second, direction)));
  }
  const Tensor effects = banks.empty() ? Tensor() : at::cat(banks, 1);
  for (size_t e = 0; e < entries_.size(); ++e) {
    const HeadId& head = entries_[e];
    if (head.layer == layer)
      put(effects.slice(1, head.first, head.last + 1).sum(1), batch, heads_[e]);
  }
  const auto mlp = tap.writes.find({Site::MlpOut, layer});
  if (mlp != tap.writes.end()) put(along(mlp->second, direction), batch, mlps_.at(layer));
}

void Attribution::run_batch(int64_t index) {
  const JudgedRun run(model_, objective_, index);
  const ObjectiveBatch& batch = run.batch();
  const QueryRows at = query_rows(objective_, batch);
  const Prompt prompt = run.prompt();
  WritesTap writes(model_.config(), at);
  std::vector<Tensor> last = {at.take(run.resid())};  // [1 + layer] of [example, d_model]
  Tensor resid = run.resid();
  for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
    resid = model_.run_layers(resid, layer, layer + 1, &writes, nullptr, prompt);
    last.push_back(at.take(resid));
  }
  KeepSites norm({kFinalScale, kFinalNormalized});
  model_.unembed(last.back(), &norm);
  std::vector<AnswerTokens> answers;
  for (const int64_t example : batch.examples) {
    answers.push_back(answers_[static_cast<size_t>(example)]);
  }
  const AnswerDirections to = answer_directions(model_, answers, norm.kept.at(kFinalScale));
  put(along(norm.kept.at(kFinalNormalized), to.unembed), batch, difference_);
  put(along(last.front(), to.residual), batch, embedding_);
  const Tensor& bias = model_.final_norm().bias();
  if (bias.defined()) put(along(to.unembed, bias.expand_as(to.unembed)), batch, norm_bias_);
  for (int64_t layer = 0; layer < model_.layer_count(); ++layer) {
    add_layer(layer, writes, batch, to.residual);
    if (!biases_.contains(layer)) continue;
    const Tensor written = bias_of(layer, run.resid(), prompt);
    put(on_host(to.residual).matmul(written), batch, biases_.at(layer));
  }
  for (size_t i = 0; i < last.size(); ++i) {
    read_lens(static_cast<int64_t>(i) - 1, last[i], batch, to.unembed);
  }
}

LogitAttribution Attribution::result() const {
  LogitAttribution r;
  r.difference = mean_estimate(difference_);
  r.embedding = mean_estimate(embedding_);
  r.norm_bias = mean_estimate(norm_bias_);
  for (size_t e = 0; e < entries_.size(); ++e) {
    r.heads.push_back(
        {entries_[e], head_kind_name(model_.config(), entries_[e]), mean_estimate(heads_[e])});
  }
  for (const auto& [layer, values] : mlps_) r.mlps.push_back({layer, mean_estimate(values)});
  for (const auto& [layer, values] : biases_) r.biases.push_back({layer, mean_estimate(values)});
  for (size_t i = 0; i < lens_.size(); ++i) {
    r.lens.push_back({static_cast<int64_t>(i) - 1, mean_estimate(lens_[i].difference),
                      mean_estimate(lens_[i].correct).value, mean_estimate(lens_[i].logprob)});
  }
  return r;
}

LogitAttribution Attribution::run() {
  BatchSlots slots;
  for (Values* values : {&difference_, &embedding_, &norm_bias_}) slots.add(*values);
  for (Values& values : heads_) slots.add(values);
  for (auto& [layer, values] : mlps_) slots.add(values);
  for (auto& [layer, values] : biases_) slots.add(values);
  for (Lens& lens : lens_) {
    slots.add(lens.difference), slots.add(lens.correct), slots.add(lens.logprob);
  }
  for (int64_t b = 0; b < objective_.batch_count(); ++b) {
    slots.fill(options_.steps, "attribute", objective_, b, [&] { run_batch(b); });
    if (options_.progress) options_.progress(b + 1, objective_.batch_count());
  }
  return result();
}

}  // namespace

LogitAttribution attribute_logits(const LanguageModel& model, const Objective& objective,
                                  const std::vector<AnswerTokens>& answers,
                                  const LogitOptions& options) {
  c10::NoGradGuard no_grad;
  check_direct_writes("attribute_logits", model.config());
  check_answers("attribute_logits", model.config(), objective, answers);
  return Attribution(model, objective, answers, options).run();
}

}  // namespace headlens
