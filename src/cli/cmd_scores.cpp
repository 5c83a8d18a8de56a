// headlens/cli: `scores`: what heads look like by where they look.
#include <fmt/format.h>

#include <algorithm>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "cli/table.h"
#include "core/check.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/head_scores.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;  // empty: no retrieval scores
  std::vector<std::string> heads;
  int64_t groups = 16;
  int64_t prompts = 4;
  int64_t period = 50;
  int64_t steps = 50;
  int64_t top = 5;
  int64_t batch_tokens = 16384;
  MemoryFlags memory;
  SharedRunFlags shared;
  const CLI::App* command = nullptr;
};

/// Both kinds of scores, head by head.
struct Scores {
  std::vector<PatternScores> patterns;
  std::optional<RetrievalScores> retrieval;
};

/// The right segment of each prompt is the needle, the right choice the answer.
std::vector<RetrievalTrial> trials_of(const std::vector<TokenizedExample>& examples) {
  std::vector<RetrievalTrial> trials;
  for (const TokenizedExample& example : examples) {
    if (example.segments.size() != example.choice_ids.size()) continue;
    const auto answer = static_cast<size_t>(example.answer);
    trials.push_back({example.prompt_ids,
                      {example.segments[answer].start, example.segments[answer].end},
                      example.choice_ids[answer]});
  }
  HEADLENS_CHECK(TaskError, !trials.empty(),
                 "[scores] examples, expected some with a segment for each choice, got {}", "none");
  return trials;
}

Json scores_json(const Flags& flags, const Scores& scores) {
  Json json = {{"schema", "headlens.head_scores/1"},
               {"model", flags.model},
               {"prompts", flags.prompts},
               {"period", flags.period},
               {"seed", flags.seed}};
  if (scores.retrieval) {
    json["retrieval"] = {{"task", flags.task},
                         {"trials", scores.retrieval->trials},
                         {"kept", scores.retrieval->kept}};
  }
  json["heads"] = Json::array();
  for (size_t h = 0; h < scores.patterns.size(); ++h) {
    const PatternScores& s = scores.patterns[h];
    Json entry = {{"layer", s.head.layer}, {"head", s.head.first}, {"kind", s.kind}};
    if (s.kind == "mamba1") entry["channels"] = {s.head.first, s.head.last};
    entry["previous_token"] = s.previous_token;
    entry["duplicate_token"] = s.duplicate_token;
    entry["induction"] = s.induction;
    if (scores.retrieval && scores.retrieval->kept > 0) {
      entry["retrieval"] = scores.retrieval->heads[h].hits;
      entry["retrieval_share"] = scores.retrieval->heads[h].share;
    }
    json["heads"].push_back(std::move(entry));
  }
  return json;
}

/// The heads of largest score, in a row.
template <typename Score>
void add_best(Table& table, const Flags& flags, const Scores& scores, const char* name,
              Score score) {
  std::vector<std::pair<double, size_t>> order;
  for (size_t h = 0; h < scores.patterns.size(); ++h) order.emplace_back(-score(h), h);
  std::sort(order.begin(), order.end());
  order.resize(std::min(order.size(), static_cast<size_t>(flags.top)));
  std::vector<Cell> cells = {name};
  for (const auto& [negative, h] : order) {
    cells.emplace_back(" " + head_text(scores.patterns[h].head), Ink::Strong);
    cells.emplace_back(fmt::format("{:.3f}", -negative));
  }
  table.add(std::move(cells));
}

/// A name, then a head and its score for each of the `top` that are shown.
Table best_table(int64_t top) {
  std::vector<std::string> names(static_cast<size_t>(1 + 2 * top));
  names.front() = "<";
  return Table(std::move(names));
}

std::string scores_text(const Flags& flags, const Scores& scores) {
  std::string text = fmt::format("{}: {} random texts of {} tokens said twice; highest scores\n",
                                 flags.model, flags.prompts, flags.period);
  const auto& p = scores.patterns;
  const int64_t shown = std::min<int64_t>(flags.top, std::ssize(p));
  Table patterns = best_table(shown), answers = best_table(shown);
  const auto add = [&](const char* name, auto score) {
    add_best(patterns, flags, scores, name, score);
  };
  add("previous token", [&](size_t h) { return p[h].previous_token; });
  add("duplicate token", [&](size_t h) { return p[h].duplicate_token; });
  add("induction", [&](size_t h) { return p[h].induction; });
  text += patterns.text();
  if (!scores.retrieval) return text;
  const RetrievalScores& r = *scores.retrieval;
  text += fmt::format("{}: {} of {} answers found\n", flags.task, r.kept, r.trials);
  if (r.kept == 0) return text + "  no retrieval score: no answer was found\n";
  add_best(answers, flags, scores, "retrieval", [&](size_t h) { return r.heads[h].hits; });
  add_best(answers, flags, scores, "  as a set", [&](size_t h) { return r.heads[h].share; });
  return text + answers.text();
}

/// What is scored, and on what.
struct Work {
  std::vector<HeadId> heads;
  Tensor ids;                          // random texts [prompt, pos]
  std::vector<RetrievalTrial> trials;  // none without --task
};

/// Tokens of the longest text that a forward holds.
int64_t longest_text(const Flags& flags, const Work& work) {
  int64_t longest = work.ids.size(1);
  for (const RetrievalTrial& trial : work.trials) {
    const int64_t steps = std::min(flags.steps, std::ssize(trial.answer));
    longest = std::max(longest, std::ssize(trial.prompt) + steps - 1);
  }
  return longest;
}

/// In batches that fit; a text is the least that a forward can hold.
Scores scores_of(SharedRun& run, const Flags& flags, const LanguageModel& model, const Work& work) {
  const int64_t least = longest_text(flags, work);
  const int64_t most = tokens_within(flags, flags.memory, model, flags.batch_tokens,
                                     {.least_tokens = least, .map_figures = true});
  Progress progress(flags.quiet);
  Scores scores;
  const auto attempt = [&](int64_t tokens, WorkPool& pool) {
    const auto stage = [&](const char* name) {
      return HeadScoreOptions{
          tokens,
          [&progress, name](int64_t done, int64_t all) { progress.update(name, done, all); },
          steps_of(pool)};
    };
    scores.patterns = pattern_scores(model, work.ids, work.heads, stage("patterns"));
    if (work.trials.empty()) return;
    scores.retrieval =
        retrieval_scores(model, work.trials, work.heads, flags.steps, stage("retrieval"));
  };
  run.shrink_to_fit(most, attempt, least);
  progress.finish();
  return scores;
}

int score(Flags flags) {
  check_range("--batch-tokens", flags.batch_tokens, 1);
  check_range("--groups", flags.groups, 1);
  check_range("--prompts", flags.prompts, 1);
  check_range("--period", flags.period, 1);
  check_range("--steps", flags.steps, 1);
  check_range("--top", flags.top, 0);
  HEADLENS_CHECK(UsageError, !flags.task.empty() || (!flags.bos && flags.tokenizer.empty()),
                 "[scores] --bos and --tokenizer, expected with --task only, got {}", "no --task");
  check_writable(flags.out);
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  const LoadedModel loaded = load_model(flags);
  const ModelConfig& config = loaded.model.config();
  const std::vector<HeadId> named = parse_heads(flags.heads);
  check_heads_exist(config, named);
  const std::vector<HeadId> heads =
      named.empty() ? all_heads(config, flags.groups) : single_heads(config, named);
  std::optional<LoadedTask> task;
  if (!flags.task.empty()) task = load_task(flags.task, loaded, flags);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(*flags.command, flags, task ? task->info : TaskInfo{},
            task ? task_digest(task->examples) : "none", manifest);
  Work work{heads, repeated_tokens(config.vocab_size, flags.prompts, flags.period, flags.seed), {}};
  if (task) work.trials = trials_of(task->examples);
  const Scores scores = scores_of(run, flags, loaded.model, work);
  Json json = scores_json(flags, scores);
  if (run.shrunk()) json["batch_tokens_that_fit"] = run.shrunk()->tokens;
  if (run.leads()) deliver(flags, json, scores_text(flags, scores));
  run.finish();
  return 0;
}

}  // namespace

void add_scores(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "scores", "Previous-token, duplicate-token, induction and retrieval scores of every head");
  add_common_flags(*command, *flags, "file for the result as JSON");
  add_task_flag(*command, flags->task);
  command->get_option("--task")->required(false)->description(
      "a task with a segment for each choice, for retrieval scores (default: none)");
  add_heads_flag(*command, flags->heads)
      ->description("only these heads, as LAYER.HEAD or LAYER.FIRST-LAST (default: every head)");
  command->add_option("--groups", flags->groups, "channel groups of a Mamba-1 layer (default 16)");
  command->add_option("--prompts", flags->prompts, "random texts (default 4)");
  command->add_option("--period", flags->period,
                      "tokens of each, which is said twice (default 50)");
  command->add_option("--steps", flags->steps,
                      "tokens that an answer is decoded for at most (default 50)");
  command->add_option("--top", flags->top, "heads that are printed (default 5)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward, a text at least (default 16384)");
  add_memory_flags(*command, flags->memory);
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return score(*flags); }; });
}

}  // namespace headlens::cli
