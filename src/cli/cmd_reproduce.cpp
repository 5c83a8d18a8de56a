// headlens/cli: `reproduce`: the study's claims, each tried on models and tasks that are given.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <fstream>

#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/reproduce_page.h"
#include "cli/zoo.h"
#include "core/check.h"

namespace headlens::cli {
namespace {

struct Flags : StudyFlags {
  std::vector<std::string> claims;
  bool all = false;
};

/// UsageError for a claim that there is not, and for none.
std::vector<const Claim*> chosen_claims(const Flags& flags) {
  std::vector<std::string> known;
  for (const Claim& claim : all_claims()) known.push_back(claim.id);
  HEADLENS_CHECK(UsageError, flags.all != !flags.claims.empty(),
                 "[reproduce] claims, expected --all or some of {}, got {}", fmt::join(known, ", "),
                 flags.all ? "both" : "none");
  std::vector<const Claim*> chosen;
  for (const Claim& claim : all_claims()) {
    const bool named = std::count(flags.claims.begin(), flags.claims.end(), claim.id) > 0;
    if (flags.all || named) chosen.push_back(&claim);
  }
  for (const std::string& word : flags.claims) {
    HEADLENS_CHECK(UsageError, std::count(known.begin(), known.end(), word) > 0,
                   "[reproduce] claim, expected one of {}, got {}", fmt::join(known, ", "), word);
  }
  return chosen;
}

std::vector<std::string> model_names(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  for (const std::string& word : words) {
    if (word != "zoo" && word != "variants") {
      names.push_back(word);
      continue;
    }
    const std::vector<std::string> group = word == "zoo" ? zoo_names() : zoo_variants();
    for (const std::string& name : group) names.push_back("zoo:" + name);
  }
  return names;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  HEADLENS_CHECK(Error, file.good(), "[reproduce] {}, expected to be writable, got an error",
                 path.string());
}

int reproduce(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<const Claim*> claims = chosen_claims(flags);
  flags.models = model_names(flags.models);
  HEADLENS_CHECK(UsageError, flags.dictionaries.find("{}") != std::string::npos,
                 "[reproduce] --dictionaries, expected {{}} where the number of pairs goes, got {}",
                 flags.dictionaries);
  if (!flags.out.empty()) make_directory(flags.out);
  Study study(flags);
  Progress progress(flags.quiet);
  std::vector<Tried> tried;
  for (const Claim* claim : claims) tried.push_back({claim, {}});
  int64_t done = 0;
  const int64_t total = std::ssize(claims) * std::ssize(flags.models);
  for (const std::string& model : flags.models) {
    study.hold(model);
    for (Tried& one : tried) {
      progress.update("claims", done++, total);
      const auto began = std::chrono::steady_clock::now();
      Outcome outcome = one.claim->run(study, model);
      outcome.seconds = seconds_since(began);
      one.outcomes.push_back(std::move(outcome));
    }
  }
  progress.update("claims", total, total);
  progress.finish();
  StudyInfo info{study.manifest(), flags};
  info.manifest.seconds = seconds_since(start);
  const Json json = study_json(tried, info);
  if (!flags.out.empty()) {
    write_file(flags.out / "study.json", json_text(json));
    write_file(flags.out / "study.html", study_page(json));
  }
  print(flags.json ? json_text(json) : study_text(tried));
  return 0;
}

}  // namespace

void add_reproduce(CLI::App& app, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "reproduce", "The study's claims tried on models: figures beside the study's, and a verdict");
  command->add_option("CLAIM", flags->claims, "C1 to C7");
  command->add_flag("--all", flags->all, "every claim");
  command
      ->add_option("--models", flags->models,
                   "checkpoint directories, zoo:NAME, zoo for the bundled ones, variants for the "
                   "bundled variants of them; comma-separated")
      ->delimiter(',')
      ->default_val(std::vector<std::string>{"zoo"});
  add_run_flags(*command, *flags, "directory for study.json and study.html");
  command->add_option("--retrieval", flags->retrieval,
                      "task in which heads are found (default mcq:options=4,n=256)");
  command->add_option("--knowledge", flags->knowledge,
                      "task that asks for knowledge (default world-facts:n=240)");
  command
      ->add_option("--related", flags->related, "other retrieval tasks, of C3; may be given again")
      ->allow_extra_args(false);
  command->add_option("--dictionaries", flags->dictionaries,
                      "task of C7, {} for the number of pairs (default kv:pairs={},n=128)");
  command->add_option("--pairs", flags->pairs, "numbers of pairs (default 4,8,16,24)")
      ->delimiter(',');
  command->add_option("--batch-tokens", flags->batch_tokens,
                      "tokens held in one forward (default 16384)");
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return reproduce(*flags); }; });
}

}  // namespace headlens::cli
