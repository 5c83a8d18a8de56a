// headlens/cli: `circuit`: the smallest sets of heads, the paths between them, what stands in.
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/answers.h"
#include "cli/circuit_output.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/pool_steps.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "core/check.h"
#include "core/near_words.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  std::vector<std::string> heads, senders, receivers;
  AblationFlags ablation;
  bool minimal = false, pairs = false, self_repair = false;
  CircuitOptions circuit;
  std::string measure = "accuracy", scope = "model";
  std::string positions = "segment_ends", inputs = "all";
  SharedRunFlags shared;
  const CLI::App* command = nullptr;
};

template <typename T>
T one_of(const char* flag, const std::string& word,
         const std::vector<std::pair<std::string, T>>& offered) {
  std::vector<std::string> names;
  for (const auto& [name, value] : offered) {
    if (name == word) return value;
    names.push_back(name);
  }
  HEADLENS_FAIL(UsageError, "[circuit] {}, expected one of {}, got '{}'{}", flag,
                fmt::join(names, ", "), word, suggestion(word, names));
}

CircuitOptions circuit_options(const Flags& flags) {
  CircuitOptions options = flags.circuit;
  options.sweep = sweep_options(flags.ablation);
  HEADLENS_CHECK(UsageError, options.sweep.mode != AblationMode::Scale,
                 "[circuit] --mode, expected zero, mean or resample, got '{}'",
                 flags.ablation.mode);
  options.heads = parse_heads(flags.heads);
  options.measure = one_of<CircuitMeasure>(
      "--measure", flags.measure,
      {{"accuracy", CircuitMeasure::Accuracy}, {"logprob", CircuitMeasure::LogProb}});
  options.scope = one_of<CircuitScope>(
      "--scope", flags.scope, {{"model", CircuitScope::Model}, {"layers", CircuitScope::Layers}});
  check_range("--candidates", options.candidates, 1);
  check_range("--groups", options.mamba1_groups, 1);
  check_range("--prove", options.exhaustive_sets, 0);
  for (const double share : {options.carry_share, options.break_share}) {
    HEADLENS_CHECK(UsageError, share >= 0 && share <= 1,
                   "[circuit] --share and --break-share, expected 0 to 1, got {}", share);
  }
  return options;
}

PathOptions path_options(const Flags& flags, const SweepOptions& sweep) {
  PathOptions options;
  options.mode = sweep.mode;
  options.placement = sweep.placement;
  options.max_batch_tokens = sweep.max_batch_tokens;
  options.positions = one_of<SenderPositions>("--positions", flags.positions,
                                              {{"segment_ends", SenderPositions::SegmentEnds},
                                               {"segments", SenderPositions::Segments},
                                               {"all", SenderPositions::All}});
  options.inputs = one_of<ReceiverInputs>("--inputs", flags.inputs,
                                          {{"all", ReceiverInputs::All},
                                           {"keys_values", ReceiverInputs::KeysValues},
                                           {"queries", ReceiverInputs::Queries}});
  return options;
}

/// One run of the command: what it works on, and what it has found so far.
struct Search {
  const Flags& flags;
  const LanguageModel& model;
  const Objective& objective;
  const std::vector<AnswerTokens>& answers;
  CircuitOptions options;
  PathOptions paths;
  Progress& progress;
  Json json = {};
  std::string text = {};

  std::function<void(int64_t, int64_t)> stage(const char* name) const {
    return [this, name](int64_t done, int64_t total) { progress.update(name, done, total); };
  }
  void add(const char* name, Json found, const std::string& said) {
    json[name] = std::move(found);
    text += (text.empty() ? "" : "\n") + said;
  }
};

void search_minimal(Search& search) {
  const CircuitResult found = circuit_search(search.model, search.objective, search.options);
  search.add("minimal", minimal_json(found), minimal_text(found));
  if (!search.options.heads.empty()) return;
  for (const Candidate& candidate : found.candidates)
    search.options.heads.push_back(candidate.head);
}

/// Without --heads those of largest single drop.
void choose_heads(Search& search) {
  if (!search.options.heads.empty()) return;
  PrefixedPool pool(*search.options.pool, "strongest ");
  CircuitOptions options = search.options;
  options.pool = &pool;
  for (const Candidate& c : strongest_heads(search.model, search.objective, options)) {
    search.options.heads.push_back(c.head);
  }
}

void search_pairs(Search& search) {
  search.paths.progress = search.stage("pairs");
  search.paths.steps = steps_of(*search.options.pool);
  const auto among = [&](const std::vector<std::string>& words) {
    const ModelConfig& config = search.model.config();
    return words.empty() ? search.options.heads : single_heads(config, parse_heads(words));
  };
  const PathPatching found =
      path_patching(search.model, search.objective, among(search.flags.senders),
                    among(search.flags.receivers), search.paths);
  search.add("pairs", pairs_json(found), pairs_text(found));
}

void search_repair(Search& search) {
  RepairOptions options;
  options.mode = search.options.sweep.mode;
  options.placement = search.options.sweep.placement;
  options.mamba1_groups = search.options.mamba1_groups;
  options.progress = search.stage("self-repair");
  options.steps = steps_of(*search.options.pool);
  const std::vector<SelfRepair> found =
      self_repair(search.model, search.objective, search.answers, search.options.heads, options);
  search.add("self_repair", repair_json(found), repair_text(found));
}

void run_searches(Search& search, const TaskInfo& task) {
  const Flags& flags = search.flags;
  search.json = {{"schema", "headlens.circuit/1"},
                 {"model", flags.model},
                 {"task", task.spec},
                 {"seed", task.seed},
                 {"examples", task.examples},
                 {"mode", flags.ablation.mode},
                 {"placement", flags.ablation.placement}};
  const bool none = !flags.minimal && !flags.pairs && !flags.self_repair;
  if (flags.minimal || none) search_minimal(search);
  const bool named = !flags.senders.empty() && !flags.receivers.empty();
  if ((flags.pairs && !named) || flags.self_repair) choose_heads(search);
  if (flags.pairs) search_pairs(search);
  if (flags.self_repair) search_repair(search);
}

int circuit(Flags flags) {
  Progress progress(flags.quiet);
  CircuitOptions options = circuit_options(flags);
  HEADLENS_CHECK(UsageError, flags.pairs || (flags.senders.empty() && flags.receivers.empty()),
                 "[circuit] --senders and --receivers, expected --pairs with them, got {}", "none");
  const PathOptions paths = path_options(flags, options.sweep);
  check_writable(flags.out);
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  const LoadedModel loaded = load_model(flags);
  check_heads_exist(loaded.model.config(), options.heads);
  check_heads_exist(loaded.model.config(), parse_heads(flags.senders));
  check_heads_exist(loaded.model.config(), parse_heads(flags.receivers));
  check_placement(loaded.model.config(), options.sweep.placement);
  options.heads = single_heads(loaded.model.config(), options.heads);
  options.progress = [&](const char* stage, int64_t done, int64_t total) {
    progress.update(stage, done, total);
  };
  const LoadedTask task = load_task(flags.task, loaded, flags);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(*flags.command, flags, task.info, task_digest(task.examples), manifest);
  const std::vector<AnswerTokens> answers = answers_of(task.examples);
  Json json;
  memory_notice(flags, loaded.model, flags.ablation.batch_tokens);
  std::string text;
  run.shrink_to_fit(flags.ablation.batch_tokens, [&](int64_t tokens, WorkPool& pool) {
    // Variants share a forward: short batches leave room for them.
    const auto objective = make_choice_objective(task.examples, std::max<int64_t>(1, tokens / 4));
    Search search{flags, loaded.model, *objective, answers, options, paths, progress};
    search.options.pool = &pool;
    search.options.sweep.max_batch_tokens = search.paths.max_batch_tokens = tokens;
    run_searches(search, task.info);
    json = std::move(search.json), text = std::move(search.text);
  });
  progress.finish();
  if (run.shrunk()) json["batch_tokens_that_fit"] = run.shrunk()->tokens;
  if (run.leads()) deliver(flags, json, text);
  run.finish();
  return 0;
}

void add_search_flags(CLI::App& command, Flags& flags) {
  command.add_flag("--minimal", flags.minimal,
                   "the smallest sets that carry the task, or break it when cut (the default)");
  command.add_flag("--pairs", flags.pairs,
                   "path patching between the heads: what of one's effect reaches another");
  command.add_flag("--self-repair", flags.self_repair,
                   "what other heads pick up when one is cut, by direct logit attribution");
  command.add_option("--candidates", flags.circuit.candidates,
                     "heads of largest single drop that are searched (default 16)");
  command.add_option("--groups", flags.circuit.mamba1_groups,
                     "channel groups of a Mamba-1 layer (default 16)");
  command.add_option("--measure", flags.measure,
                     "minimal: what the task is to keep, accuracy or logprob (default accuracy)");
  command.add_option("--share", flags.circuit.carry_share,
                     "minimal: share of it that a set has to carry (default 0.9)");
  command.add_option("--break-share", flags.circuit.break_share,
                     "minimal: share that is left at most when it is broken (default 0.2)");
  command.add_option("--scope", flags.scope,
                     "minimal: whose other heads are cut, model or layers (default model)");
  command.add_option("--prove", flags.circuit.exhaustive_sets,
                     "minimal: sets tried to prove one the smallest (default 512)");
  command.add_option("--positions", flags.positions,
                     "pairs: where the sender is cut, segment_ends, segments or all (default "
                     "segment_ends)");
  command
      .add_option("--senders", flags.senders,
                  "pairs: heads that are cut (default: --heads, else those of largest single drop)")
      ->delimiter(',');
  command.add_option("--receivers", flags.receivers, "pairs: heads that are patched (the same)")
      ->delimiter(',');
  command.add_option("--inputs", flags.inputs,
                     "pairs: the receiver's inputs, all, keys_values or queries (default all)");
}

}  // namespace

void add_circuit(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "circuit",
      "The smallest sets of heads that carry a task, the paths between heads, and what "
      "stands in for a head that is cut");
  add_common_flags(*command, *flags, "file for the result as JSON");
  add_task_flag(*command, flags->task);
  add_heads_flag(*command, flags->heads)
      ->description("only these heads, as LAYER.HEAD or LAYER.FIRST-LAST (default: every head)");
  add_search_flags(*command, *flags);
  add_ablation_flags(*command, flags->ablation);
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return circuit(*flags); }; });
}

}  // namespace headlens::cli
