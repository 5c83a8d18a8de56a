// headlens/cli: how accuracy falls as a task grows, with a circuit's heads and without.
#include "cli/size_curve.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/pool_steps.h"
#include "core/check.h"
#include "headlens/analysis/estimates.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

constexpr std::string_view kSize = "{}";

std::string of_size(std::string task, int64_t size) {
  return task.replace(task.find(kSize), kSize.size(), fmt::format("{}", size));
}

}  // namespace

void add_curve_flags(CLI::App& command, CurveFlags& flags) {
  command.add_option("--curve", flags.task,
                     "also accuracy against the size of a task, with {} for the size: "
                     "'kv:pairs={},n=128'; whole, and without the strongest heads");
  command.add_option("--sizes", flags.sizes, "sizes of --curve (default 4,8,16,24)")
      ->delimiter(',');
}

std::vector<LoadedTask> load_curve(const CurveFlags& flags, const LoadedModel& loaded,
                                   CommonFlags common) {
  if (flags.task.empty()) return {};
  HEADLENS_CHECK(UsageError, flags.task.find(kSize) != std::string::npos,
                 "[find] --curve, expected a task with {{}} where its size goes, as "
                 "kv:pairs={{}},n=128, got {}",
                 flags.task);
  HEADLENS_CHECK(UsageError, !flags.sizes.empty(), "[find] --sizes, expected at least 1, got {}",
                 "none");
  common.seed += 1;
  std::vector<LoadedTask> tasks;
  for (const int64_t size : flags.sizes) {
    check_range("--sizes", size, 1);
    tasks.push_back(load_task(of_size(flags.task, size), loaded, common));
  }
  return tasks;
}

SizeCurve size_curve(const CurveFlags& flags, std::vector<LoadedTask> tasks,
                     const LanguageModel& model, const std::vector<HeadId>& heads,
                     const SweepOptions& options, WorkPool& pool) {
  SizeCurve curve{flags.task, tasks.front().info.seed, flags.sizes, {}, {{}}};
  for (const HeadId& head : heads) curve.lines.push_back({{head}, {}});
  for (LoadedTask& task : tasks) {
    curve.examples.push_back(std::ssize(task.examples));
    const auto objective =
        make_choice_objective(std::move(task.examples), options.max_batch_tokens / 4);
    const auto outcomes = pooled_outcomes(pool, "curve " + task.info.spec, [&] {
      SweepResult swept = sweep_targets(model, *objective, one_each(heads), options);
      swept.variants.insert(swept.variants.begin(), std::move(swept.base));
      return std::move(swept.variants);
    });
    for (size_t line = 0; line < curve.lines.size(); ++line) {
      curve.lines[line].accuracy.push_back(accuracy_estimate(outcomes[line]));
    }
  }
  return curve;
}

std::vector<HeadId> curve_heads(const FindResult& found) {
  std::vector<HeadId> heads;
  for (const auto* role : {&found.gather, &found.aggregate}) {
    if (!role->empty()) heads.push_back(role->front());
  }
  if (!heads.empty()) return heads;
  const auto drop = [](const HeadScore& s) {
    return s.accuracy_drop ? s.accuracy_drop->value : -2;
  };
  const auto most =
      std::max_element(found.heads.begin(), found.heads.end(),
                       [&](const HeadScore& a, const HeadScore& b) { return drop(a) < drop(b); });
  if (most != found.heads.end()) heads.push_back(most->head);
  return heads;
}

}  // namespace headlens::cli
