// headlens/analysis: a clean and a corrupted run of the same examples, judged alike.
#include "analysis/paired_run.h"

#include <ATen/ATen.h>

#include "core/check.h"

namespace headlens {

std::vector<std::vector<Verdict>> PairedRun::judge(int64_t batch, const Tensor& logits,
                                                   int64_t variants) const {
  auto verdicts = clean_.judge(batch, logits, variants);
  const auto others = corrupted_.judge(batch, logits, variants);
  for (size_t v = 0; v < verdicts.size(); ++v) {
    for (size_t i = 0; i < verdicts[v].size(); ++i) {
      verdicts[v][i].numbers = {verdicts[v][i].logprob - others[v][i].logprob};
    }
  }
  return verdicts;
}

Tensor PairedRun::difference(int64_t batch, const Tensor& logits) const {
  return at::log_sigmoid(clean_.answer_log_odds(batch, logits)) -
         at::log_sigmoid(corrupted_.answer_log_odds(batch, logits));
}

void check_same_rows(const Objective& clean, const Objective& corrupted) {
  HEADLENS_CHECK(ShapeError,
                 clean.example_count() == corrupted.example_count() &&
                     clean.batch_count() == corrupted.batch_count(),
                 "[patch] corrupted examples, expected {} in {} batches, got {} in {}",
                 clean.example_count(), clean.batch_count(), corrupted.example_count(),
                 corrupted.batch_count());
  for (int64_t e = 0; e < clean.example_count(); ++e) {
    HEADLENS_CHECK(ShapeError, clean.prompt(e).length == corrupted.prompt(e).length,
                   "[patch] tokens of corrupted prompt {}, expected {} as in the clean one, got {}",
                   e, clean.prompt(e).length, corrupted.prompt(e).length);
  }
  for (int64_t b = 0; b < clean.batch_count(); ++b) {
    const ObjectiveBatch &own = clean.batch(b), &other = corrupted.batch(b);
    const bool alike = own.ids.sizes() == other.ids.sizes() && own.examples == other.examples &&
                       own.example_rows == other.example_rows &&
                       at::equal(own.logit_positions, other.logit_positions);
    HEADLENS_CHECK(ShapeError, alike,
                   "[patch] corrupted batch {}, expected the clean one's rows, {}, got {}", b,
                   shape_string(own.ids.sizes()), shape_string(other.ids.sizes()));
  }
}

}  // namespace headlens
