// headlens/cli: how accuracy falls as a task grows, with a circuit's heads and without.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "cli/common.h"
#include "headlens/analysis/work_pool.h"

namespace headlens::cli {

struct CurveFlags {
  std::string task;  // with {} where the size goes; empty: no curve
  std::vector<int64_t> sizes = {4, 8, 16, 24};
};

/// --curve and --sizes.
void add_curve_flags(CLI::App& command, CurveFlags& flags);

/// A task of every size, of the seed after that of `common`: heads are not measured on what they
/// were found on. UsageError for a task without its {}, for no sizes or one below 1.
std::vector<LoadedTask> load_curve(const CurveFlags& flags, const LoadedModel& loaded,
                                   CommonFlags common);

/// Accuracy at every size: of the whole model, and without each of `heads` alone.
SizeCurve size_curve(const CurveFlags& flags, std::vector<LoadedTask> tasks,
                     const LanguageModel& model, const std::vector<HeadId>& heads,
                     const SweepOptions& options, WorkPool& pool);

/// The heads a curve is drawn without: the strongest Gather and the strongest Aggregate head; where
/// there is neither, the head with the largest drop.
std::vector<HeadId> curve_heads(const FindResult& found);

}  // namespace headlens::cli
