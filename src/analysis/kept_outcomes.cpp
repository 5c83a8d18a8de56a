// headlens/analysis: outcomes over all examples as the result of one step that is kept.
#include "analysis/kept_outcomes.h"

#include <utility>

#include "core/value_bytes.h"

namespace headlens {
namespace {

std::string bytes_of(const std::vector<SweepOutcome>& outcomes) {
  ValueWriter out;
  out.put(outcomes.size());
  for (const SweepOutcome& outcome : outcomes) {
    out.put(outcome.verdicts.size());
    for (const Verdict& v : outcome.verdicts) {
      out.put(v.correct), out.put(v.logprob), out.put(v.margin);
    }
  }
  return std::move(out.bytes);
}

std::vector<SweepOutcome> outcomes_of(const std::string& bytes) {
  ValueReader in(bytes);
  std::vector<SweepOutcome> outcomes(in.get<size_t>());
  for (SweepOutcome& outcome : outcomes) {
    outcome.verdicts.resize(in.get<size_t>());
    for (Verdict& v : outcome.verdicts) {
      v.correct = in.get<bool>(), v.logprob = in.get<double>(), v.margin = in.get<double>();
    }
  }
  return outcomes;
}

}  // namespace

std::vector<SweepOutcome> kept_outcomes(const KeptSteps& steps, const std::string& key,
                                        const std::function<std::vector<SweepOutcome>()>& compute) {
  if (!steps) return compute();
  return outcomes_of(steps(key, [&] { return bytes_of(compute()); }));
}

SweepResult kept_sweep(const KeptSteps& steps, const std::string& key,
                       const std::function<SweepResult()>& compute) {
  if (!steps) return compute();
  SweepResult result;
  std::vector<SweepOutcome> all = kept_outcomes(steps, key, [&] {
    result = compute();
    std::vector<SweepOutcome> outcomes = {result.base};
    outcomes.insert(outcomes.end(), result.variants.begin(), result.variants.end());
    return outcomes;
  });
  result.base = std::move(all.front());
  result.variants.assign(std::make_move_iterator(all.begin() + 1),
                         std::make_move_iterator(all.end()));
  return result;
}

}  // namespace headlens
