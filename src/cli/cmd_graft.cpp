// headlens/cli: `graft`: what a task gains from layers or heads of another model.
#include <charconv>
#include <chrono>
#include <optional>

#include "analysis/kept_outcomes.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/graft_output.h"
#include "cli/memory_notice.h"
#include "cli/pool_steps.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "core/check.h"
#include "headlens/analysis/attention_variant.h"
#include "headlens/report/json_report.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

constexpr int64_t kTrainTokens = 2048;  // tokens of one step

struct Flags : CommonFlags {
  std::string donor;
  std::vector<std::string> layers, mixers, heads;
  bool all_layers = false, all_mixers = false, all_heads = false;
  std::vector<std::string> tasks, knowledge;
  std::optional<int64_t> train;
  std::string train_task;
  std::optional<double> rate;
  int64_t batch_tokens = SweepOptions{}.max_batch_tokens;
  MemoryFlags memory;
  SharedRunFlags shared;
  const CLI::App* command = nullptr;
};

void check_flags(const Flags& flags) {
  check_range("--batch-tokens", flags.batch_tokens, 1);
  const int named = !flags.layers.empty() + !flags.mixers.empty() + !flags.heads.empty() +
                    flags.all_layers + flags.all_mixers + flags.all_heads;
  HEADLENS_CHECK(UsageError, named == 1,
                 "[graft] what to graft, expected one of --layer, --mixer, --head, --all-layers, "
                 "--all-mixers and --all-heads, got {}",
                 named == 0 ? "none" : "several");
  if (flags.train) check_range("--train", *flags.train, 1);
  HEADLENS_CHECK(UsageError, flags.train.has_value() || !flags.donor.empty(),
                 "[graft] --from, expected a donor (or --train, which needs none), got {}", "none");
  HEADLENS_CHECK(UsageError, !flags.train || flags.donor.empty(),
                 "[graft] --train, expected without --from (its head is no other model's), got {}",
                 "both");
  HEADLENS_CHECK(UsageError, !flags.train || flags.heads.size() == 1,
                 "[graft] --train, expected with one --head LAYER.HEAD, got {}",
                 flags.heads.empty() ? "none" : "several");
  HEADLENS_CHECK(UsageError, flags.train || (flags.train_task.empty() && !flags.rate),
                 "[graft] --train-task and --rate, expected with --train, got {}", "it left out");
}

/// "A:B" as {A, B}; "A" as {A, A}.
std::pair<std::string_view, std::string_view> sides(std::string_view word) {
  const size_t colon = word.find(':');
  if (colon == std::string_view::npos) return {word, word};
  return {word.substr(0, colon), word.substr(colon + 1)};
}

std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::optional<HeadPlace> place(std::string_view text) {
  const size_t dot = std::min(text.find('.'), text.size());
  const auto layer = number(text.substr(0, dot));
  const auto head = number(text.substr(std::min(dot + 1, text.size())));
  if (!layer || !head) return std::nullopt;
  return HeadPlace{*layer, *head};
}

std::vector<LayerGraft> parse_layers(const char* flag, const std::vector<std::string>& words,
                                     bool mixer_only) {
  std::vector<LayerGraft> grafts;
  for (const std::string& word : words) {
    const auto donor = number(sides(word).first), recipient = number(sides(word).second);
    HEADLENS_CHECK(UsageError, donor && recipient,
                   "[graft] {}, expected DONOR:RECIPIENT, two layers, or one for both, got '{}'",
                   flag, word);
    grafts.push_back({*donor, *recipient, mixer_only});
  }
  return grafts;
}

std::vector<HeadGraft> parse_heads(const std::vector<std::string>& words) {
  std::vector<HeadGraft> grafts;
  for (const std::string& word : words) {
    const auto donor = place(sides(word).first), recipient = place(sides(word).second);
    HEADLENS_CHECK(UsageError, donor && recipient,
                   "[graft] --head, expected DONOR:RECIPIENT, each LAYER.HEAD, or one for both, "
                   "got '{}'",
                   word);
    grafts.push_back({*donor, *recipient});
  }
  return grafts;
}

std::vector<GraftPlan> plans_of(const Flags& flags, const ModelConfig& recipient,
                                const ModelConfig& donor) {
  if (flags.all_heads) return each_head(recipient, donor);
  if (flags.all_layers || flags.all_mixers) return each_layer(recipient, donor, flags.all_mixers);
  GraftPlan plan{parse_layers("--layer", flags.layers, false), parse_heads(flags.heads)};
  if (!flags.mixers.empty()) plan.layers = parse_layers("--mixer", flags.mixers, true);
  return {plan};
}

/// A task made ready, and its place in the result.
struct Prepared {
  GraftedTask task;
  std::vector<TokenizedExample> examples;
};

std::vector<Prepared> prepare(const LoadedModel& loaded, const Flags& flags) {
  std::vector<Prepared> all;
  const auto add = [&](const std::vector<std::string>& specs, bool knowledge) {
    for (const std::string& spec : specs) {
      LoadedTask task = load_task(spec, loaded, flags);
      all.push_back({{task.info, knowledge, {}}, std::move(task.examples)});
    }
  };
  add(flags.tasks, false);
  add(flags.knowledge, true);
  return all;
}

/// Ids mean the same to both models, as far as the tasks go.
void check_ids(const std::vector<Prepared>& tasks, const LoadedModel& donor, const Flags& flags) {
  if (!flags.tokenizer.empty()) return;  // one for both, by the user's word
  CommonFlags theirs = flags;
  theirs.quiet = true;  // what there is to note of the task was noted
  for (const Prepared& one : tasks) {
    const LoadedTask read = load_task(one.task.info.spec, donor, theirs);
    HEADLENS_CHECK(UsageError, task_digest(read.examples) == task_digest(one.examples),
                   "[graft] tokenizer of the donor, expected the ids of the recipient's for {}, "
                   "got others",
                   one.task.info.spec);
  }
}

/// A digest of what the models are asked.
std::string digest_of(const std::vector<Prepared>& tasks) {
  std::string all;
  for (const Prepared& one : tasks) all += task_digest(one.examples) + " ";
  return all;
}

void start(SharedRun& run, const LoadedModel& recipient, const std::vector<Prepared>& tasks,
           const Flags& flags, const std::string& donor, Manifest& manifest) {
  Manifest first = make_manifest(flags, recipient);
  run.start(*flags.command, flags, tasks.front().task.info, digest_of(tasks) + donor, first);
  manifest.command = first.command, manifest.started = first.started;
}

GraftFound try_donor(const LoadedModel& recipient, std::vector<Prepared> tasks, const Flags& flags,
                     SharedRun& run, Progress& progress, Manifest& manifest) {
  CommonFlags common = flags;
  common.model = flags.donor;
  const LoadedModel donor = load_model(common);
  manifest.options["checkpoint_donor"] = donor.model.fingerprint();
  const auto plans = plans_of(flags, recipient.model.config(), donor.model.config());
  // Better said before the work: a pair that does not fit.
  for (const GraftPlan& plan : plans) grafted_model(recipient.model, donor.model, plan);
  check_ids(tasks, donor, flags);
  start(run, recipient, tasks, flags, donor.model.fingerprint(), manifest);
  GraftFound found;
  for (const GraftPlan& plan : plans) found.rows.push_back({.plan = plan});
  for (Prepared& one : tasks) {
    const std::string stage = "grafts on " + one.task.info.spec;
    GraftTrials trials;
    const int64_t most = tokens_within(flags, flags.memory, recipient.model, flags.batch_tokens);
    run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
      PrefixedPool of_task(pool, one.task.info.spec + " ");
      const auto objective = make_choice_objective(one.examples, tokens);
      trials = try_grafts(
          recipient.model, donor.model, *objective, plans,
          [&](int64_t done, int64_t total) { progress.update(stage, done, total); },
          steps_of(of_task));
    });
    one.task.base = std::move(trials.base);
    for (size_t p = 0; p < plans.size(); ++p) {
      found.rows[p].tasks.push_back(std::move(trials.plans[p]));
    }
    found.tasks.push_back(std::move(one.task));
  }
  return found;
}

/// Examples to train on: none of those that are measured.
std::vector<TokenizedExample> training_examples(const LoadedModel& loaded,
                                                const std::vector<Prepared>& tasks,
                                                const Flags& flags) {
  CommonFlags other = flags;
  other.seed = flags.seed + 1;
  const std::string& spec = flags.train_task.empty() ? flags.tasks.front() : flags.train_task;
  LoadedTask task = load_task(spec, loaded, other);
  for (const Prepared& one : tasks) {
    HEADLENS_CHECK(UsageError, task_digest(task.examples) != task_digest(one.examples),
                   "[graft] --train-task, expected other examples than those of {}, got the same "
                   "for every seed",
                   one.task.info.spec);
  }
  return std::move(task.examples);
}

VariantOptions variant_options(const Flags& flags, WorkPool& pool, Progress& progress) {
  VariantOptions options;
  options.steps = *flags.train;
  options.rate = flags.rate.value_or(options.rate);
  options.seed = flags.seed;
  options.steps_kept = steps_of(pool);
  options.progress = [&progress](int64_t done, int64_t total) {
    progress.update("train", done, total);
  };
  return options;
}

/// Adds a task's outcomes: the model as it is, without the head, and with each variant of it.
void measure_variants(const LanguageModel& recipient, const AttentionVariant& variant,
                      const HeadPlace& head, Prepared& one, const Flags& flags, WorkPool& pool,
                      GraftFound& found) {
  SweepOptions sweep;
  sweep.max_batch_tokens = flags.batch_tokens;
  const auto objective = make_choice_objective(std::move(one.examples), flags.batch_tokens);
  const KeptSteps steps = steps_of(pool);
  const std::string& spec = one.task.info.spec;
  const SweepResult own = kept_sweep(steps, spec + " without the head", [&] {
    return ablation_sweep(recipient, *objective, {{head.layer, head.head, head.head}}, sweep);
  });
  one.task.base = own.base;
  const SweepOutcome& cut = own.variants.front();
  for (size_t r = 0; r < found.rows.size(); ++r) {
    const LanguageModel& model = r == 0 ? variant.fresh : variant.trained;
    const SweepResult with =
        kept_sweep(steps, fmt::format("{} {}", spec, found.rows[r].state),
                   [&] { return sweep_targets(model, *objective, {}, sweep); });
    found.rows[r].tasks.push_back({with.base, cut});
  }
  found.tasks.push_back(std::move(one.task));
}

GraftFound train_head(const LoadedModel& recipient, std::vector<Prepared> tasks, const Flags& flags,
                      SharedRun& run, Progress& progress, Manifest& manifest) {
  start(run, recipient, tasks, flags, "", manifest);
  const HeadPlace head = parse_heads(flags.heads).front().recipient;
  HEADLENS_CHECK(UsageError, flags.heads.front().find(':') == std::string::npos,
                 "[graft] --train, expected with one --head LAYER.HEAD, got '{}'",
                 flags.heads.front());
  const VariantOptions options = variant_options(flags, run.pool(), progress);
  const auto training =
      make_choice_objective(training_examples(recipient, tasks, flags), kTrainTokens);
  const AttentionVariant variant =
      train_attention_variant(recipient.model, *training, head, options);
  manifest.options["train_examples"] = fmt::format("{}", training->example_count());
  manifest.options["first_loss"] = fmt::format("{:.4f}", variant.first_loss);
  manifest.options["last_loss"] = fmt::format("{:.4f}", variant.last_loss);
  GraftFound found;
  found.rows = {{.head = head, .state = "fresh"}, {.head = head, .state = "trained"}};
  for (Prepared& one : tasks) {
    measure_variants(recipient.model, variant, head, one, flags, run.pool(), found);
  }
  return found;
}

int graft(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  check_flags(flags);
  // Words and directories first: better said before the work than after half of it.
  parse_layers("--layer", flags.layers, false);
  parse_layers("--mixer", flags.mixers, true);
  parse_heads(flags.heads);
  if (!flags.train) model_directory(flags.donor);
  check_writable(flags.out);
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  const LoadedModel recipient = load_model(flags);
  std::vector<Prepared> tasks = prepare(recipient, flags);
  Manifest manifest = make_manifest(flags, recipient);
  manifest.options = {{"batch_tokens", fmt::format("{}", flags.batch_tokens)},
                      {"bos", flags.bos ? "true" : "false"}};
  Progress progress(flags.quiet);
  const auto work = flags.train ? train_head : try_donor;
  const GraftFound found = work(recipient, std::move(tasks), flags, run, progress, manifest);
  run.note_shrunk(manifest.options);
  progress.finish();
  manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Json json = {{"schema", "headlens.graft/1"}, {"model", flags.model}};
  if (!flags.train) json["donor"] = flags.donor;
  if (flags.train) json["train_steps"] = *flags.train;
  json.update(graft_json(found));
  json["manifest"] = manifest_json(manifest);
  if (run.leads()) deliver(flags, json, graft_text(found));
  run.finish();
  return 0;
}

void add_places(CLI::App& command, const char* name, std::vector<std::string>& words,
                const char* help) {
  command.add_option(name, words, help)->delimiter(',');
}

}  // namespace

void add_graft(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "graft", "What a task gains from layers or heads of another model in place of its own");
  add_common_flags(*command, *flags, "file for the result as JSON");
  command->add_option("--from", flags->donor, "the donor: a checkpoint directory, or zoo:NAME");
  add_places(*command, "--layer", flags->layers,
             "DONOR:RECIPIENT, layers put in together, comma-separated; one number for both");
  add_places(*command, "--mixer", flags->mixers,
             "the same of mixers with their norms; the recipient's MLPs stay");
  add_places(*command, "--head", flags->heads,
             "DONOR:RECIPIENT, each LAYER.HEAD, put in together; the recipient's heads are off");
  command->add_flag("--all-layers", flags->all_layers, "each layer by itself, number by number");
  command->add_flag("--all-mixers", flags->all_mixers, "each mixer by itself");
  command->add_flag("--all-heads", flags->all_heads, "each head by itself");
  command->add_option("--task", flags->tasks, "a task that asks for retrieval; may be given again")
      ->allow_extra_args(false)
      ->required();
  command
      ->add_option("--knowledge", flags->knowledge,
                   "a task that asks for knowledge; may be given again")
      ->allow_extra_args(false);
  command->add_option("--train", flags->train,
                      "steps: in place of the SSM head of --head an attention head is trained, all "
                      "else frozen");
  command->add_option("--train-task", flags->train_task,
                      "what it is trained on (default: the first --task), with the next seed");
  command->add_option("--rate", flags->rate, "learning rate (default 0.003)");
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_memory_flags(*command, flags->memory);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return graft(*flags); }; });
}

}  // namespace headlens::cli
