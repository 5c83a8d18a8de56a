// headlens/cli: `ablate`: accuracy before and after heads are switched off together.
#include <fmt/ranges.h>

#include <charconv>
#include <utility>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "cli/table.h"
#include "core/check.h"
#include "headlens/analysis/work_items.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  AblationFlags ablation;
  SharedRunFlags shared;
  CutFlags cut;
  std::string segments;  // "all", or their indices; empty: no map is cut
  bool renormalize = false;
};

/// The segments that --segments names; none: all of them.
std::vector<int64_t> parse_segments(const std::string& word) {
  if (word == "all") return {};
  std::vector<int64_t> all;
  for (size_t at = 0; at <= word.size();) {
    const size_t end = std::min(word.find(',', at), word.size());
    int64_t value = -1;
    const auto [stop, error] = std::from_chars(word.data() + at, word.data() + end, value);
    HEADLENS_CHECK(UsageError, error == std::errc() && stop == word.data() + end && value >= 0,
                   "[ablate] --segments, expected all or numbers from 0, got '{}'", word);
    all.push_back(value);
    at = end + 1;
  }
  return all;
}

std::vector<HeadId> heads_of_all(const ModelConfig& config) {
  std::vector<HeadId> heads;
  for (int64_t layer = 0; layer < std::ssize(config.layers); ++layer) {
    const int64_t count = head_count(config.layers[static_cast<size_t>(layer)]);
    if (count > 0) heads.push_back({layer, 0, count - 1});
  }
  return heads;
}

/// Without --segments, heads and MLPs are cut; with it the heads named lose what they read from
/// segments (all heads of all layers, where none is named).
SweepTarget target_of(const ModelConfig& config, const Flags& flags) {
  SweepTarget target = cut_target(config, flags.cut);
  if (flags.segments.empty()) return target;
  std::vector<HeadId> heads = std::exchange(target.heads, {});
  if (heads.empty()) heads = heads_of_all(config);
  for (const HeadId& head : heads) {
    MapCut cut{.layer = head.layer, .segments = parse_segments(flags.segments)};
    for (int64_t h = head.first; h <= head.last; ++h) cut.heads.push_back(h);
    cut.renormalize = flags.renormalize;
    target.maps.push_back(std::move(cut));
  }
  return target;
}

void check_flags(const Flags& flags) {
  const bool names = flags.cut.names_heads() || !flags.cut.mlps.empty();
  HEADLENS_CHECK(UsageError, names || !flags.segments.empty(),
                 "[ablate] what to switch off, expected --heads, --layers, --mlp or --segments, "
                 "got {}",
                 "none");
  check_cut_flags("ablate", flags.cut);
  HEADLENS_CHECK(UsageError, !flags.segments.empty() || !flags.renormalize,
                 "[ablate] --renormalize, expected with --segments, got it {}", "alone");
}

void add_outcome(Table& table, const char* name, const SweepOutcome& o) {
  table.add({name, fmt::format("{:.4f}", o.accuracy()), fmt::format("{:.4f}", o.mean_logprob()),
             fmt::format("{}", o.near_ties())});
}

std::string ablate_text(const SweepResult& r, const TaskInfo& task, const AblationFlags& ablation) {
  const SweepOutcome& after = r.variants.front();
  const Estimate drop = accuracy_drop(r.base, after);
  Table table({"<", "accuracy", "mean log-probability", "near ties"});
  add_outcome(table, "before", r.base);
  add_outcome(table, "after", after);
  return table.text() +
         fmt::format(
             "drop {:.4f} (95 % {:.4f} to {:.4f}) over {} examples; placement {}, mode {}\n",
             drop.value, drop.low, drop.high, task.examples, ablation.placement, ablation.mode);
}

Json outcome_json(const SweepOutcome& o) {
  return {
      {"accuracy", o.accuracy()}, {"mean_logprob", o.mean_logprob()}, {"near_ties", o.near_ties()}};
}

Json ablate_json(const SweepResult& r, const TaskInfo& task, const Flags& flags) {
  const SweepOutcome& after = r.variants.front();
  const Estimate drop = accuracy_drop(r.base, after);
  return {{"task", task.spec},
          {"seed", task.seed},
          {"examples", task.examples},
          {"heads", flags.cut.heads},
          {"keep", flags.cut.keep},
          {"layers", flags.cut.layers},
          {"mlp", flags.cut.mlps},
          {"segments", flags.segments},
          {"renormalize", flags.renormalize},
          {"mode", flags.ablation.mode},
          {"placement", flags.ablation.placement},
          {"base", outcome_json(r.base)},
          {"ablated", outcome_json(after)},
          {"accuracy_drop", drop.value},
          {"accuracy_drop_ci", {drop.low, drop.high}},
          {"logprob_drop", logprob_drop(r.base, after)}};
}

std::map<std::string, std::string> item_options(const Flags& flags) {
  return {{"command", "ablate"},
          {"heads", fmt::format("{}", fmt::join(flags.cut.heads, ","))},
          {"layers", fmt::format("{}", fmt::join(flags.cut.layers, ","))},
          {"mlp", fmt::format("{}", fmt::join(flags.cut.mlps, ","))},
          {"segments", flags.segments},
          {"renormalize", flags.renormalize ? "true" : "false"},
          {"keep", flags.cut.keep ? "true" : "false"},
          {"max_gpu_memory", fmt::format("{}", flags.ablation.gpu_memory)},
          {"max_host_memory", fmt::format("{}", flags.ablation.host_memory)},
          {"mode", flags.ablation.mode},
          {"placement", flags.ablation.placement},
          {"batch_tokens", fmt::format("{}", flags.ablation.batch_tokens)},
          {"bos", flags.bos ? "true" : "false"}};
}

int ablate(Flags flags) {
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  SweepOptions options = sweep_options(flags.ablation);
  check_flags(flags);
  parse_heads(flags.cut.heads);
  if (run.leads()) check_writable(flags.out);
  const LoadedModel loaded = load_model(flags);
  const SweepTarget target = target_of(loaded.model.config(), flags);
  check_placement(loaded.model.config(), options.placement);
  LoadedTask task = load_task(flags.task, loaded, flags);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(
      run_identity(manifest, flags, task.info, task_digest(task.examples), item_options(flags)),
      manifest);
  Progress progress(flags.quiet);
  options.progress = [&](int64_t done, int64_t total) { progress.update("ablate", done, total); };
  memory_notice(flags, loaded.model, flags.ablation.batch_tokens);
  SweepResult r;
  run.shrink_to_fit(flags.ablation.batch_tokens, [&](int64_t tokens, WorkPool& pool) {
    options.max_batch_tokens = tokens;
    r = pooled_targets(pool, loaded.model, *make_choice_objective(task.examples, tokens), {target},
                       options);
  });
  progress.finish();
  if (run.leads()) {
    Json json = ablate_json(r, task.info, flags);
    if (run.shrunk()) json["batch_tokens_that_fit"] = run.shrunk()->tokens;
    deliver(flags, json, ablate_text(r, task.info, flags.ablation));
  }
  run.finish();
  return 0;
}

}  // namespace

void add_ablate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("ablate", "Accuracy before and after heads are switched off");
  add_common_flags(*command, *flags, "file for the result as JSON");
  add_task_flag(*command, flags->task);
  add_cut_flags(*command, flags->cut);
  command->add_option("--segments", flags->segments,
                      "all, or numbers from 0: the heads named (else all) only lose what the last "
                      "prompt token and the answer read from these segments");
  command->add_flag("--renormalize", flags->renormalize,
                    "softmax rows without those segments sum to 1 again");
  add_ablation_flags(*command, flags->ablation);
  add_shared_run_flags(*command, flags->shared);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return ablate(*flags); }; });
}

}  // namespace headlens::cli
