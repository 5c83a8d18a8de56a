// headlens/cli: `patch`: activation patching between a clean run and a corrupted one.
#include <fmt/ranges.h>

#include <chrono>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/heads.h"
#include "cli/memory_notice.h"
#include "cli/output.h"
#include "cli/patch_output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "core/check.h"
#include "core/near_words.h"
#include "core/whole_file.h"
#include "headlens/tasks/corrupted.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::string task;
  std::vector<std::string> sites = {"resid"};
  std::vector<std::string> positions, heads;
  std::vector<int64_t> layers;
  std::string direction = "denoising", corrupt;
  bool attribution = false, drop_unpaired = false;
  int64_t groups = 16, top = 12;
  AblationFlags limits;
  SharedRunFlags shared;
  const CLI::App* command = nullptr;
};

std::vector<PatchSite> sites_of(const Flags& flags) {
  const std::vector<PatchSite> known = {PatchSite::Resid, PatchSite::MixerOut, PatchSite::MlpOut,
                                        PatchSite::Z,     PatchSite::Pattern,  PatchSite::Map,
                                        PatchSite::State};
  std::vector<std::string> names;
  for (const PatchSite site : known) names.emplace_back(patch_site_name(site));
  std::vector<PatchSite> sites;
  for (const std::string& word : flags.sites) {
    const auto found = std::find(names.begin(), names.end(), word);
    HEADLENS_CHECK(UsageError, found != names.end(),
                   "[patch] --site, expected one of {}, got '{}'{}", fmt::join(names, ", "), word,
                   suggestion(word, names));
    sites.push_back(known[static_cast<size_t>(found - names.begin())]);
  }
  return sites;
}

PatchOptions options_of(const Flags& flags) {
  const SweepOptions limits = sweep_options(flags.limits);
  PatchOptions options;
  HEADLENS_CHECK(UsageError, flags.direction == "denoising" || flags.direction == "noising",
                 "[patch] --direction, expected denoising or noising, got '{}'", flags.direction);
  if (flags.direction == "noising") options.direction = PatchDirection::Noising;
  options.placement = limits.placement;
  options.layers = flags.layers;
  options.heads = parse_heads(flags.heads);
  options.mamba1_groups = flags.groups;
  options.attribution = flags.attribution;
  options.max_batch_tokens = limits.max_batch_tokens;
  options.max_gpu_bytes = limits.max_gpu_bytes;
  options.max_host_bytes = limits.max_host_bytes;
  check_range("--groups", flags.groups, 1);
  check_range("--top", flags.top, 0);
  return options;
}

std::optional<Corruption> corruption_of(const Flags& flags) {
  if (flags.corrupt.empty()) return std::nullopt;
  const std::optional<Corruption> how = parse_corruption(flags.corrupt);
  HEADLENS_CHECK(UsageError, how.has_value(),
                 "[patch] --corrupt, expected given, swap or example, got '{}'", flags.corrupt);
  return how;
}

/// A task's examples and the corrupted ones, with a digest of both.
struct Pairs {
  TaskInfo info;
  std::string digest;
  std::unique_ptr<Objective> clean, corrupted;
  Corruption how = Corruption::Given;
  int64_t left_out = 0;
};

Pairs load_pairs(const Flags& flags, const LoadedModel& loaded, std::optional<Corruption> how,
                 int64_t batch_tokens) {
  LoadedTask clean = load_task(flags.task, loaded, flags);
  const Task task = make_task(flags.task, flags.seed);
  Pairs pairs;
  pairs.info = clean.info;
  pairs.how = how.value_or(default_corruption(task));
  std::vector<TokenizedExample>&all = clean.examples, corrupted;
  const Tokenizer tokenizer = load_tokenizer(loaded, flags);
  if (flags.drop_unpaired) {
    std::vector<size_t> kept;
    corrupted = corrupted_where_possible(task, all, tokenizer, pairs.how, flags.bos, kept);
    for (size_t i = 0; i < kept.size(); ++i) std::swap(all[i], all[kept[i]]);
    pairs.left_out = std::ssize(all) - std::ssize(kept);
    all.resize(kept.size());
    pairs.info.examples = std::ssize(all);
  } else {
    corrupted = corrupted_examples(task, all, tokenizer, pairs.how, flags.bos);
  }
  // Variants share a forward: short batches leave room for them.
  const int64_t row_tokens = std::max<int64_t>(1, batch_tokens / 8);
  pairs.digest = task_digest(all) + " " + task_digest(corrupted);
  auto [own, others] = make_choice_pair(std::move(all), std::move(corrupted), row_tokens);
  pairs.clean = std::move(own);
  pairs.corrupted = std::move(others);
  return pairs;
}

/// Those named, else those of the usual ones that every example has. As of the last token a state
/// does nothing.
std::vector<PositionGroup> groups_of(const Flags& flags, const Pairs& pairs, PatchSite site) {
  if (!flags.positions.empty()) {
    return position_groups(*pairs.clean, *pairs.corrupted, flags.positions);
  }
  std::vector<std::string> usual = {"right_end", "right", "wrong_end", "wrong", "between"};
  if (site != PatchSite::State) usual.insert(usual.end(), {"last", "all"});
  std::vector<PositionGroup> groups;
  for (const std::string& word : usual) {
    try {
      groups.push_back(position_groups(*pairs.clean, *pairs.corrupted, {word}).front());
    } catch (const TaskError&) {
      continue;
    }
  }
  HEADLENS_CHECK(TaskError, !groups.empty(),
                 "[patch] positions, expected segments in the task, got none: name some by {}",
                 "--positions");
  return groups;
}

Json head_json(const Flags& flags, const Pairs& pairs, const Manifest& m) {
  return {{"schema", "headlens.patching/1"},
          {"model", flags.model},
          {"task", pairs.info.spec},
          {"seed", pairs.info.seed},
          {"examples", pairs.info.examples},
          {"left_out", pairs.left_out},
          {"direction", flags.direction},
          {"corruption", corruption_name(pairs.how)},
          {"placement", flags.limits.placement},
          {"manifest",
           {{"headlens", m.headlens_version},
            {"revision", m.git_revision},
            {"torch", m.torch_version},
            {"command", m.command},
            {"checkpoint", m.checkpoint},
            {"certificate", m.certificate},
            {"device", m.device},
            {"dtype", m.dtype},
            {"started", m.started},
            {"seconds", m.seconds}}}};
}

/// Each site's cells, with that many tokens a batch.
std::vector<PatchedSite> patch_sites(const Flags& flags, const LoadedModel& loaded,
                                     const Pairs& pairs, PatchOptions options, Progress& progress) {
  std::vector<PatchedSite> found;
  for (const PatchSite site : sites_of(flags)) {
    options.site = site;
    options.progress = [&](int64_t done, int64_t total) {
      progress.update(patch_site_name(site), done, total);
    };
    const std::vector<PositionGroup> groups = groups_of(flags, pairs, site);
    found.push_back(
        {site, patch_activations(loaded.model, *pairs.clean, *pairs.corrupted, groups, options)});
  }
  progress.finish();
  return found;
}

void hand_over(const Flags& flags, const Pairs& pairs, const std::vector<PatchedSite>& found,
               const Json& json, SharedRun& run) {
  std::string text = fmt::format("{} on {}, {} pairs ({}; {} examples left out), {}\n", flags.model,
                                 pairs.info.spec, pairs.info.examples, corruption_name(pairs.how),
                                 pairs.left_out, flags.direction) +
                     patching_text(found, static_cast<size_t>(flags.top));
  if (!flags.out.empty()) {
    write_whole_file(flags.out / "patching.json", json_text(json));
    write_whole_file(flags.out / "patching.csv", patching_csv(found));
    write_whole_file(flags.out / "patching.html", patching_page(json, found));
    text += fmt::format("page: {}\n", (flags.out / "patching.html").string());
  }
  run.finish();
  print(flags.json ? json_text(json) : text);
}

int patch(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  sites_of(flags);
  PatchOptions options = options_of(flags);
  const std::optional<Corruption> how = corruption_of(flags);
  SharedRun run(flags, flags.shared, flags.out.empty() ? flags.out : flags.out / "patch.journal");
  if (!flags.out.empty() && run.leads()) make_directory(flags.out);
  const LoadedModel loaded = load_model(flags);
  check_heads_exist(loaded.model.config(), options.heads);
  check_placement(loaded.model.config(), options.placement);
  options.heads = single_heads(loaded.model.config(), options.heads);
  Pairs pairs = load_pairs(flags, loaded, how, flags.limits.batch_tokens);
  Manifest manifest = make_manifest(flags, loaded);
  run.start(*flags.command, flags, pairs.info, pairs.digest, manifest);
  Progress progress(flags.quiet);
  memory_notice(flags, loaded.model, flags.limits.batch_tokens);
  std::vector<PatchedSite> found;
  run.shrink_to_fit(flags.limits.batch_tokens, [&](int64_t tokens, WorkPool& pool) {
    if (run.shrunk()) pairs = load_pairs(flags, loaded, how, tokens);
    options.max_batch_tokens = tokens;
    options.steps = steps_of(pool);
    found = patch_sites(flags, loaded, pairs, options, progress);
  });
  manifest.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Json json = patching_json(head_json(flags, pairs, manifest), found);
  if (run.shrunk()) json["manifest"]["batch_tokens_that_fit"] = run.shrunk()->tokens;
  if (run.leads()) {
    hand_over(flags, pairs, found, json, run);
  } else {
    run.finish();
  }
  return 0;
}

/// What is patched.
void add_place_flags(CLI::App& command, Flags& flags) {
  command
      .add_option(
          "--site", flags.sites,
          "resid, attn_out (any mixer's output), mlp_out, z, pattern, map or state; several "
          "by commas (default resid)")
      ->delimiter(',');
  command
      .add_option("--positions", flags.positions,
                  fmt::format("{}; several by commas (default: those of right_end, right, "
                              "wrong_end, wrong, between, last, all that the task has)",
                              fmt::join(position_words(), ", ")))
      ->delimiter(',');
  add_heads_flag(command, flags.heads);
  command.add_option("--layers", flags.layers, "layers to patch (default: all)")->delimiter(',');
}

/// From which run to which.
void add_pair_flags(CLI::App& command, Flags& flags) {
  command.add_option("--direction", flags.direction,
                     "denoising: the corrupted run gets the clean one's activations (the default); "
                     "noising: the other way");
  command.add_option("--corrupt", flags.corrupt,
                     "where corrupted prompts come from: given (in the file), swap (two answers "
                     "exchanged) or example (another example; default: the first that serves)");
  command.add_flag("--drop-unpaired", flags.drop_unpaired,
                   "leave out examples without a corrupted prompt of as many tokens, and say how "
                   "many");
}

}  // namespace

void add_patch(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "patch", "Activation patching: where the answer is, layer by layer and token by token");
  add_common_flags(*command, *flags, "directory for patching.json, patching.csv and patching.html");
  add_task_flag(*command, flags->task);
  add_place_flags(*command, *flags);
  add_pair_flags(*command, *flags);
  command->add_flag("--attribution", flags->attribution,
                    "estimate every change by its gradient as well, and compare");
  command->add_option("--placement", flags->limits.placement,
                      "of z: post_norm or pre_norm (default post_norm)");
  command->add_option("--groups", flags->groups, "channel groups of a Mamba-1 layer (default 16)");
  command->add_option("--top", flags->top, "largest changes that are printed (default 12)");
  command->add_option("--batch-tokens", flags->limits.batch_tokens,
                      "tokens held in one forward (default 16384)");
  command->add_option("--max-gpu-memory", flags->limits.gpu_memory,
                      "GiB of a GPU that patching may take, weights included (default: no cap)");
  command->add_option("--max-host-memory", flags->limits.host_memory,
                      "the same of the host's memory, for models on the CPU");
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return patch(*flags); }; });
}

}  // namespace headlens::cli
