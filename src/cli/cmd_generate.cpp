// headlens/cli: `generate`: text that a model writes after prompts.
#include <ATen/ATen.h>

#include <fstream>
#include <iterator>

#include "cli/commands.h"
#include "cli/common.h"
#include "cli/cut_flags.h"
#include "cli/memory_notice.h"
#include "cli/not_finite.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/shared_run.h"
#include "cli/written_answers.h"
#include "core/check.h"
#include "headlens/hooks/hook_set.h"
#include "headlens/model/generate.h"

namespace headlens::cli {
namespace {

struct Flags : CommonFlags {
  std::vector<std::string> texts;
  std::vector<std::string> files;
  GenerateOptions generate;
  std::vector<std::string> stops;
  WritingCutFlags cut;
  SharedRunFlags shared;
  MemoryFlags memory;
  const CLI::App* command = nullptr;
};

std::vector<std::string> read_prompts(const Flags& flags) {
  std::vector<std::string> prompts = flags.texts;
  for (const std::string& path : flags.files) {
    std::ifstream in(path, std::ios::binary);
    HEADLENS_CHECK(UsageError, in.good() && !std::filesystem::is_directory(path),
                   "[generate] --file, expected a readable file, got '{}'", path);
    prompts.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  HEADLENS_CHECK(UsageError, !prompts.empty(), "[generate] prompts, expected {}, got none",
                 "--text or --file");
  return prompts;
}

/// A shell passes "\n" as two letters, and few stop strings are without one.
std::string unescaped(const std::string& word) {
  std::string text;
  for (size_t i = 0; i < word.size(); ++i) {
    const char next = word[i] == '\\' && i + 1 < word.size() ? word[i + 1] : '\0';
    const char meant = next == 'n' ? '\n' : next == 't' ? '\t' : next == '\\' ? '\\' : '\0';
    text += meant != '\0' ? meant : word[i];
    i += meant != '\0';
  }
  return text;
}

Json generate_json(const Flags& flags, const LoadedModel& loaded,
                   const std::vector<std::string>& prompts, const std::vector<Generation>& all) {
  Json texts = Json::array();
  for (size_t i = 0; i < all.size(); ++i) {
    Json text = {{"prompt", prompts[i]},
                 {"text", all[i].text},
                 {"end", end_reason_name(all[i].end)},
                 {"tokens", all[i].tokens},
                 {"logprobs", all[i].logprobs}};
    if (!all[i].stop.empty()) text["stop"] = all[i].stop;
    texts.push_back(std::move(text));
  }
  const GenerateOptions& o = flags.generate;
  return {{"model", flags.model},
          {"fingerprint", loaded.model.fingerprint()},
          {"max_new_tokens", o.max_new_tokens},
          {"temperature", o.temperature},
          {"top_p", o.top_p},
          {"seed", flags.seed},
          {"stops", o.stops},
          {"heads", flags.cut.heads},
          {"layers", flags.cut.layers},
          {"mlp", flags.cut.mlps},
          {"keep", flags.cut.keep},
          {"mode", flags.cut.mode},
          {"placement", flags.cut.placement},
          {"texts", std::move(texts)}};
}

/// Each prompt with what was written after it; a line between two.
std::string generate_text(const std::vector<std::string>& prompts,
                          const std::vector<Generation>& all) {
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    text += (i > 0 ? "---\n" : "") + prompts[i] + all[i].text + "\n";
  }
  return text;
}

void start(SharedRun& run, const Flags& flags, const LoadedModel& loaded,
           const std::vector<std::string>& prompts) {
  Manifest manifest = make_manifest(flags, loaded);
  TaskInfo info;
  info.spec = "prompts", info.examples = std::ssize(prompts);
  run.start(*flags.command, flags, info, prompts_digest(prompts) + " " + tokenizer_digest(flags),
            manifest);
}

std::vector<Generation> write_texts(SharedRun& run, const Flags& flags, const LoadedModel& loaded,
                                    const Tokenizer& tokenizer,
                                    const std::vector<std::string>& prompts, const HookSet& hooks) {
  Progress progress(flags.quiet);
  bool ran = false;  // not where every text is known from before
  std::vector<Generation> all;
  const int64_t most =
      tokens_within(flags, flags.memory, loaded.model, flags.generate.max_batch_tokens);
  run.shrink_to_fit(most, [&](int64_t tokens, WorkPool& pool) {
    GenerateOptions options = flags.generate;
    options.max_batch_tokens = tokens;
    options.steps = steps_of(pool);
    options.on_batch = [&ran](const std::vector<int64_t>&) { ran = true; };
    options.progress = [&](int64_t done, int64_t total) {
      progress.update("generate", done, total);
    };
    all = generate(loaded.model, tokenizer, prompts, options, flags.bos);
  });
  if (ran) hooks.check_all_fired();
  progress.finish();
  return all;
}

int generate_texts(Flags flags) {
  const SweepOptions cut = cut_options("generate", flags.cut);
  HEADLENS_CHECK(UsageError, flags.generate.temperature != 0 || flags.generate.top_p == 1,
                 "[generate] --top-p, expected with a --temperature above 0, got {}", 0);
  check_range("--max-new-tokens", flags.generate.max_new_tokens, 1);
  check_range("--batch-tokens", flags.generate.max_batch_tokens, 1);
  const std::vector<std::string> prompts = read_prompts(flags);
  check_writable(flags.out);
  SharedRun run(flags, flags.shared, journal_beside(flags.out));
  const LoadedModel loaded = load_model(flags);
  const Tokenizer tokenizer = load_tokenizer(loaded, flags);
  for (size_t i = 0; i < prompts.size(); ++i) {
    check_bos(flags, tokenizer, prompts[i]);
    HEADLENS_CHECK(UsageError, !tokenizer.encode(prompts[i], flags.bos).empty(),
                   "[generate] prompt {}, expected at least 1 token, got 0", i);
  }
  check_finite(loaded,
               at::tensor(tokenizer.encode(prompts.front(), flags.bos), at::kLong).unsqueeze(0));
  HookSet hooks(loaded.model.config());
  check_placement(loaded.model.config(), cut.placement);
  add_cuts(loaded.model, flags.cut, cut, hooks);
  for (const std::string& stop : flags.stops) flags.generate.stops.push_back(unescaped(stop));
  flags.generate.seed = flags.seed;
  if (hooks.size() > 0) flags.generate.tap = &hooks;
  start(run, flags, loaded, prompts);
  const std::vector<Generation> all = write_texts(run, flags, loaded, tokenizer, prompts, hooks);
  Json json = generate_json(flags, loaded, prompts, all);
  if (run.shrunk()) json["batch_tokens_that_fit"] = run.shrunk()->tokens;
  if (run.leads()) deliver(flags, json, generate_text(prompts, all));
  run.finish();
  return 0;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("generate", "Text that the model writes after prompts");
  add_common_flags(*command, *flags, "file for the result as JSON");
  command->get_option("--seed")->description("seed of the draws (default 0)");
  command->add_option("--text", flags->texts, "a prompt; may be given again")
      ->allow_extra_args(false);
  command->add_option("--file", flags->files, "a file that is one prompt; may be given again")
      ->allow_extra_args(false);
  GenerateOptions& o = flags->generate;
  command->add_option("--max-new-tokens", o.max_new_tokens, "tokens at most (default 64)");
  command->add_option("--temperature", o.temperature, "0 (default): the likeliest token each time");
  command->add_option("--top-p", o.top_p,
                      "draw among the likeliest tokens that have this share (default 1: all)");
  command
      ->add_option("--stop", flags->stops,
                   "end a text before this string (\\n, \\t and \\\\ as in C); may be given again")
      ->allow_extra_args(false);
  command->add_flag("--ignore-end-tokens", o.ignore_end_tokens,
                    "go on after the model's end tokens");
  command->add_option("--batch-tokens", o.max_batch_tokens,
                      "tokens held at once, new ones included (default 16384)");
  add_writing_cut_flags(*command, flags->cut);
  add_memory_flags(*command, flags->memory);
  add_shared_run_flags(*command, flags->shared);
  flags->command = command;
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return generate_texts(*flags); }; });
}

}  // namespace headlens::cli
