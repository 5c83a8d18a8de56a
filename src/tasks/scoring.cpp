// headlens/tasks: choices scored by the log-probability of their tokens.
#include "headlens/tasks/scoring.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <limits>
#include <numeric>

#include "core/check.h"
#include "core/value_bytes.h"
#include "headlens/core/intervals.h"
#include "headlens/model/language_model.h"
#include "headlens/model/row_fork.h"
#include "headlens/model/token_logprobs.h"

namespace headlens {
namespace {

/// Log-probability of every pick: [variants, pick] float64 on the CPU.
Tensor pick_logprobs(const Tensor& logits, const ScoringBatch& batch, int64_t variants) {
  const int64_t places = batch.rows.ids.size(0) * batch.rows.logit_positions.size(1);
  // Half precision cannot tell close choices apart; on the CPU float64 costs next to nothing.
  const bool wide = logits.is_cpu() || logits.scalar_type() == at::kDouble;
  const Tensor scores =
      logits.detach().to(wide ? at::kDouble : at::kFloat).reshape({variants, places, -1});
  const Tensor picks = batch.picks.to(logits.device());
  const Tensor place = picks[0] * batch.rows.logit_positions.size(1) + picks[1];  // [pick]
  const Tensor variant = at::arange(variants, picks.options()).unsqueeze(1);      // [variants, 1]
  const Tensor picked = scores.index({variant, place, picks[2]});  // [variants, pick]
  const Tensor total = scores.logsumexp(-1).index({variant, place});
  return (picked.to(at::kDouble) - total).to(at::kCPU, at::kDouble).contiguous();
}

void check_logits(const Tensor& logits, const ScoringBatch& batch, int64_t variants) {
  const int64_t rows = variants * batch.rows.ids.size(0);
  const int64_t slots = batch.rows.logit_positions.size(1);
  HEADLENS_CHECK(ShapeError,
                 logits.dim() == 3 && logits.size(0) == rows && logits.size(1) == slots &&
                     logits.is_floating_point(),
                 "[score] logits, expected floating point [{}, {}, vocab], got {} {}", rows, slots,
                 dtype_name(logits.scalar_type()), shape_string(logits.sizes()));
  HEADLENS_CHECK(ShapeError, batch.max_token < logits.size(2),
                 "[score] token id of a choice, expected less than the model's {}, got {}",
                 logits.size(2), batch.max_token);
}

using ChoiceScores = std::vector<std::vector<double>>;  // [i][choice]

std::string bytes_of(const ChoiceScores& scores) {
  ValueWriter out;
  for (const std::vector<double>& of_example : scores) out.put_list(of_example);
  return std::move(out.bytes);
}

ChoiceScores scores_of(const std::string& bytes) {
  ValueReader in(bytes);
  ChoiceScores scores;
  while (!in.at_end()) scores.push_back(in.get_list<double>());
  return scores;
}

/// Log-probabilities of every choice.
ChoiceScores score_batch(const LanguageModel& model, const ScoringBatch& batch, Tap* tap) {
  if (tap == nullptr) {
    check_forward_inputs(model.config(), batch.rows.ids, batch.rows.logit_positions);
    const Tensor leaving = run_judged(model, batch.rows);
    return choice_logprobs_of_picks(token_logprobs(model, leaving, batch.picks), batch).front();
  }
  ForwardOptions forward;
  forward.tap = tap;
  forward.logit_positions = batch.rows.logit_positions;
  return choice_logprobs(model.forward(batch.rows.ids, forward), batch).front();
}

}  // namespace

std::vector<std::vector<std::vector<double>>> choice_logprobs(const Tensor& logits,
                                                              const ScoringBatch& batch,
                                                              int64_t variants) {
  check_logits(logits, batch, variants);
  return choice_logprobs_of_picks(pick_logprobs(logits, batch, variants), batch);
}

std::vector<std::vector<std::vector<double>>> choice_logprobs_of_picks(const Tensor& logprobs,
                                                                       const ScoringBatch& batch) {
  const int64_t variants = logprobs.size(0);
  HEADLENS_CHECK(ShapeError, logprobs.dim() == 2 && logprobs.size(1) == batch.picks.size(1),
                 "[score] log-probabilities, expected [variants, {}], got {}", batch.picks.size(1),
                 shape_string(logprobs.sizes()));
  const auto values = logprobs.accessor<double, 2>();
  std::vector<std::vector<std::vector<double>>> out(static_cast<size_t>(variants));
  for (int64_t v = 0; v < variants; ++v) {
    for (size_t i = 0; i < batch.choices.size(); ++i) {
      int64_t pick = batch.choices[i].begin;
      std::vector<double>& scores = out[static_cast<size_t>(v)].emplace_back();
      for (const int64_t count : batch.choices[i].counts) {
        double sum = 0;
        for (int64_t end = pick + count; pick < end; ++pick) sum += values[v][pick];
        HEADLENS_CHECK(TaskError, !std::isnan(sum),
                       "[score] example {}, expected a log-probability, got not a number",
                       batch.rows.examples[i]);
        scores.push_back(sum);
      }
    }
  }
  return out;
}

Tensor answer_log_odds(const Tensor& logits, const ScoringBatch& batch) {
  check_logits(logits, batch, 1);
  const int64_t slots = batch.rows.logit_positions.size(1);
  std::vector<int64_t> chosen, example_of;  // the picks of right choices
  for (size_t i = 0; i < batch.choices.size(); ++i) {
    const auto& [begin, counts, answer] = batch.choices[i];
    const int64_t first = std::accumulate(counts.begin(), counts.begin() + answer, begin);
    for (int64_t k = 0; k < counts[static_cast<size_t>(answer)]; ++k) {
      chosen.push_back(first + k);
      example_of.push_back(static_cast<int64_t>(i));
    }
  }
  const at::Device device = logits.device();
  const Tensor picks = batch.picks.index_select(1, at::tensor(chosen, at::kLong)).to(device);
  const bool wide = logits.is_cpu() || logits.scalar_type() == at::kDouble;
  const Tensor scores = logits.flatten(0, 1)
                            .index_select(0, picks[0] * slots + picks[1])
                            .to(wide ? at::kDouble : at::kFloat);  // [pick, vocab]
  const Tensor token = picks[2].unsqueeze(1);
  const Tensor others = scores.scatter(1, token, -INFINITY).logsumexp(1);
  const Tensor token_odds = (scores.gather(1, token).squeeze(1) - others).to(at::kDouble);
  const Tensor logprob =
      at::zeros({std::ssize(batch.choices)}, token_odds.options())
          .index_add(0, at::tensor(example_of, at::kLong).to(device), at::log_sigmoid(token_odds));
  return logprob - at::log(-at::expm1(logprob));
}

Verdict judge_choices(const std::vector<double>& logprobs, int64_t answer) {
  const auto best = std::max_element(logprobs.begin(), logprobs.end());  // the first maximum
  double second = -std::numeric_limits<double>::infinity();
  for (auto it = logprobs.begin(); it != logprobs.end(); ++it) {
    if (it != best) second = std::max(second, *it);
  }
  Verdict verdict;
  verdict.correct = best - logprobs.begin() == answer;
  verdict.logprob = logprobs[static_cast<size_t>(answer)];
  verdict.margin = *best == second ? 0.0 : *best - second;  // not -inf - -inf
  return verdict;
}

bool judge_normalized(const std::vector<double>& logprobs, const std::vector<int64_t>& lengths,
                      int64_t answer) {
  std::vector<double> scores;
  for (size_t c = 0; c < logprobs.size(); ++c) {
    scores.push_back(logprobs[c] / static_cast<double>(lengths.at(c)));
  }
  return std::max_element(scores.begin(), scores.end()) - scores.begin() == answer;
}

EvalResult summarize(const std::vector<Verdict>& verdicts, double chance) {
  EvalResult result;
  result.n = std::ssize(verdicts);
  result.chance = chance;
  int64_t right = 0;
  double total = 0;
  for (const Verdict& verdict : verdicts) {
    right += verdict.correct ? 1 : 0;
    total += verdict.logprob;
    result.near_ties += verdict.margin < kNearTie ? 1 : 0;
    result.correct.push_back(verdict.correct ? 1 : 0);
    result.logprob.push_back(verdict.logprob);
  }
  std::tie(result.ci_low, result.ci_high) = wilson_bounds(right, result.n);
  if (result.n == 0) return result;
  result.accuracy = static_cast<double>(right) / static_cast<double>(result.n);
  result.mean_logprob = total / static_cast<double>(result.n);
  return result;
}

namespace {

NormalizedAccuracy normalized_accuracy(std::vector<uint8_t> correct) {
  NormalizedAccuracy out;
  const int64_t n = std::ssize(correct);
  const int64_t right = std::accumulate(correct.begin(), correct.end(), int64_t{0});
  out.accuracy = static_cast<double>(right) / static_cast<double>(n);
  std::tie(out.ci_low, out.ci_high) = wilson_bounds(right, n);
  out.correct = std::move(correct);
  return out;
}

}  // namespace

EvalResult evaluate(const LanguageModel& model, const std::vector<TokenizedExample>& examples,
                    const EvalOptions& options) {
  HEADLENS_CHECK(TaskError, !examples.empty(), "[eval] examples, expected at least one, got none");
  const at::NoGradGuard no_grad;
  std::vector<Verdict> verdicts(examples.size());
  std::vector<uint8_t> normalized(examples.size());
  const bool has_lengths = std::none_of(examples.begin(), examples.end(),
                                        [](const auto& e) { return e.lengths.empty(); });
  double chance = 0;
  int64_t done = 0;
  for (const ScoringBatch& batch : make_batches(examples, options.max_batch_tokens)) {
    const std::string key =
        fmt::format("scores from {} on, {} examples", done, batch.rows.examples.size());
    const ChoiceScores scores = scores_of(kept_step(
        options.steps, key, [&] { return bytes_of(score_batch(model, batch, options.tap)); }));
    for (size_t i = 0; i < scores.size(); ++i) {
      const size_t example = static_cast<size_t>(batch.rows.examples[i]);
      verdicts[example] = judge_choices(scores[i], batch.choices[i].answer);
      if (has_lengths) {
        normalized[example] =
            judge_normalized(scores[i], examples[example].lengths, batch.choices[i].answer);
      }
      chance += 1 / static_cast<double>(scores[i].size());
    }
    done += std::ssize(scores);
    if (options.progress) options.progress(done, std::ssize(examples));
  }
  EvalResult result = summarize(verdicts, chance / static_cast<double>(examples.size()));
  if (has_lengths) result.norm = normalized_accuracy(std::move(normalized));
  return result;
}

}  // namespace headlens
