// headlens/cli: steps of a command that one process does for all, kept in the run's journal.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "headlens/analysis/compare_types.h"
#include "headlens/analysis/estimates.h"
#include "headlens/analysis/work_pool.h"

namespace headlens::cli {

/// A run's pool with `prefix` before every key: for two searches of one run, whose items would
/// otherwise have the same names.
class PrefixedPool final : public WorkPool {
 public:
  PrefixedPool(WorkPool& pool, std::string prefix) : pool_(pool), prefix_(std::move(prefix)) {}
  void start(const RunIdentity& identity, std::optional<Journal> journal) override;
  std::vector<std::string> run(const std::vector<std::string>& keys, const Compute& compute,
                               const Progress& progress) override;
  bool leads() const override { return pool_.leads(); }
  void finish() override { pool_.finish(); }

 private:
  WorkPool& pool_;
  std::string prefix_;
};

/// Outcomes over any examples, made by one of the processes or read from the journal.
/// `key` says what they are. Error for a journal that holds something else.
std::vector<SweepOutcome> pooled_outcomes(
    WorkPool& pool, const std::string& key,
    const std::function<std::vector<SweepOutcome>()>& compute);

/// The figures of a model's heads, likewise; what `compute` gives but for its spreads and summary.
struct HeadFigures {
  std::vector<HeadValues> heads;
  std::optional<HeadValues> gather, aggregate;
};
HeadFigures pooled_head_values(WorkPool& pool, const std::string& key,
                               const std::function<HeadFigures()>& compute);

}  // namespace headlens::cli
