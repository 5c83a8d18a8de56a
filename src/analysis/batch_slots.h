// headlens/analysis: what a batch's run writes into results by example, kept as one step's bytes.
#pragma once

#include <string>
#include <vector>

#include "core/value_bytes.h"
#include "headlens/analysis/estimates.h"
#include "headlens/core/kept_steps.h"
#include "headlens/model/objective.h"

namespace headlens {

/// Results that batches fill in, each at its own examples. They must outlive this object, in place.
class BatchSlots {
 public:
  void add(SweepOutcome& outcome) { outcomes_.push_back(&outcome); }
  void add(std::vector<double>& values) { values_.push_back(&values); }

  /// `run` fills in the slots of this batch, unless a killed run has done so: then they are filled
  /// in as they were.
  void fill(const KeptSteps& steps, const std::string& what, const Objective& objective,
            int64_t index, const std::function<void()>& run) {
    if (!steps) return run();
    const std::vector<int64_t>& examples = objective.batch(index).examples;
    const std::string key = fmt::format("{}: batch {} of {}", what, index, objective.batch_count());
    read(steps(key, [&] { return run(), bytes(examples); }), examples);
  }

 private:
  std::string bytes(const std::vector<int64_t>& examples) const {
    ValueWriter out;
    for (const int64_t e : examples) {
      const auto at = static_cast<size_t>(e);
      for (const SweepOutcome* outcome : outcomes_) {
        const Verdict& v = outcome->verdicts[at];
        out.put(v.correct), out.put(v.logprob), out.put(v.margin);
        out.put_list(v.numbers);
      }
      for (const std::vector<double>* values : values_) out.put((*values)[at]);
    }
    return std::move(out.bytes);
  }
  void read(const std::string& bytes, const std::vector<int64_t>& examples) {
    ValueReader in(bytes);
    for (const int64_t e : examples) {
      const auto at = static_cast<size_t>(e);
      for (SweepOutcome* outcome : outcomes_) {
        Verdict& v = outcome->verdicts[at];
        v.correct = in.get<bool>(), v.logprob = in.get<double>(), v.margin = in.get<double>();
        v.numbers = in.get_list<double>();
      }
      for (std::vector<double>* values : values_) (*values)[at] = in.get<double>();
    }
  }

  std::vector<SweepOutcome*> outcomes_;
  std::vector<std::vector<double>*> values_;
};

}  // namespace headlens
