// headlens/cli: `reproduce`: the study's claims, each tried on models and tasks that are given.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "cli/commands.h"
#include "cli/heads.h"
#include "cli/peak_memory.h"
#include "cli/progress.h"
#include "cli/reproduce_page.h"
#include "cli/shared_run.h"
#include "cli/zoo.h"
#include "core/check.h"
#include "core/json_fields.h"
#include "core/out_of_memory.h"
#include "core/whole_file.h"
#include "headlens/core/log.h"
#include "headlens/tasks/generative.h"

namespace headlens::cli {
namespace {

struct Flags : StudyFlags {
  std::vector<std::string> claims;
  SharedRunFlags shared;
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

/// Each once: "zoo" is every bundled model with its variants, "variants" these alone.
std::vector<std::string> model_names(const std::vector<std::string>& words) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const std::string& word : words) {
    if (word != "zoo" && word != "variants") {
      add(word);
      continue;
    }
    if (word == "zoo") {
      for (const std::string& name : zoo_names()) add("zoo:" + name);
    }
    for (const std::string& name : zoo_variants()) add("zoo:" + name);
  }
  return names;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Everything that the tasks ask, and its digest: two files of one name may differ.
std::string tasks_digest(const StudyFlags& flags) {
  std::vector<std::string> specs = {flags.retrieval, flags.knowledge};
  specs.insert(specs.end(), flags.related.begin(), flags.related.end());
  for (const int64_t pairs : flags.pairs) {
    specs.push_back(fmt::format(fmt::runtime(flags.dictionaries), pairs));
  }
  std::string all;
  const auto add = [&all](const std::string& text) {
    all += fmt::format("{}:{}", text.size(), text);
  };
  for (const std::string& spec : specs) {
    if (is_generative_task(spec)) {
      for (const GenerativeExample& e : make_generative_task(spec).examples) {
        add(e.prompt), add(e.target);
      }
      continue;
    }
    for (const Example& e : make_task(spec, flags.seed + 1).examples) {
      add(e.prompt), add(fmt::format("{}", e.answer));
      for (const std::string& choice : e.choices) add(choice);
      for (const Segment& s : e.segments) add(fmt::format("{} {}", s.start, s.end));
    }
  }
  return checksum_text(all);
}

/// What outcomes depend on.
RunIdentity identity_of(Study& study, const std::vector<const Claim*>& claims,
                        const Manifest& manifest) {
  const StudyFlags& flags = study.flags();
  std::vector<std::string> models, ids;
  for (const std::string& model : flags.models) {
    CommonFlags of_model = flags;
    of_model.model = model;
    models.push_back(fmt::format("{} {} {}", model, study.identity(model).fingerprint,
                                 tokenizer_digest(of_model)));
  }
  for (const Claim* claim : claims) ids.push_back(claim->id);
  return {{"command", "reproduce"},
          {"models", fmt::format("{}", fmt::join(models, ", "))},
          {"claims", fmt::format("{}", fmt::join(ids, ", "))},
          {"heads", fmt::format("{}", fmt::join(flags.heads, ","))},
          {"retrieval", flags.retrieval},
          {"knowledge", flags.knowledge},
          {"related", fmt::format("{}", fmt::join(flags.related, " "))},
          {"dictionaries", flags.dictionaries},
          {"pairs", fmt::format("{}", fmt::join(flags.pairs, ","))},
          {"examples", tasks_digest(flags)},
          {"seed", fmt::format("{}", flags.seed)},
          {"dtype", flags.dtype.empty() ? "default" : flags.dtype},
          {"device", manifest.device.substr(0, manifest.device.find_first_of(":,"))},
          {"tf32", flags.tf32 ? "true" : "false"},
          {"bos", flags.bos ? "true" : "false"},
          {"batch_tokens", fmt::format("{}", flags.batch_tokens)},
          {"max_memory", fmt::format("{} {}", flags.memory.gpu, flags.memory.host)},
          {"headlens", fmt::format("{} {}", manifest.headlens_version, manifest.git_revision)},
          {"torch", manifest.torch_version}};
}

/// Where memory runs out, the claim is tried again with half the tokens a batch.
Outcome outcome_that_fits(Study& study, const Claim& claim, const std::string& model) {
  for (;;) {
    try {
      return claim.run(study, model);
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e) || !study.halve_batches()) throw;
    }
    release_memory();
    log_warn(fmt::format("[memory] out of memory in {} on {}; going on with {} tokens a batch",
                         claim.id, model, study.flags().batch_tokens));
  }
}

Outcome measured(Study& study, const Claim& claim, const std::string& model) {
  study.hold(model);
  reset_peak_memory(study.devices());
  const auto began = std::chrono::steady_clock::now();
  Outcome outcome = outcome_that_fits(study, claim, model);
  outcome.seconds = seconds_since(began);
  if (!study.devices().empty()) outcome.peak_bytes = peak_memory(study.devices());
  return outcome;
}

/// Every claim on every model, the outcomes from the journal among them: a model's claims one after
/// another, so that it is loaded once.
std::vector<Tried> try_all(Study& study, const std::vector<const Claim*>& claims, WorkPool& pool) {
  const std::vector<std::string>& models = study.flags().models;
  std::vector<std::string> keys;
  for (const std::string& model : models) {
    for (const Claim* claim : claims) keys.push_back(fmt::format("{} {}", claim->id, model));
  }
  Progress progress(study.flags().quiet);
  const auto compute = [&](size_t item) {
    const Claim& claim = *claims[item % claims.size()];
    return json_text(outcome_json(measured(study, claim, models[item / claims.size()])));
  };
  const std::vector<std::string> results = pool.run(
      keys, compute, [&](int64_t done, int64_t total) { progress.update("claims", done, total); });
  progress.finish();
  std::vector<Tried> tried;
  for (const Claim* claim : claims) tried.push_back({claim, {}});
  for (size_t item = 0; item < results.size(); ++item) {
    tried[item % claims.size()].outcomes.push_back(read_outcome(Json::parse(results[item])));
  }
  return tried;
}

int reproduce(Flags flags) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<const Claim*> claims = chosen_claims(flags);
  flags.models = model_names(flags.models);
  HEADLENS_CHECK(UsageError, flags.dictionaries.find("{}") != std::string::npos,
                 "[reproduce] --dictionaries, expected {{}} where the number of pairs goes, got {}",
                 flags.dictionaries);
  HEADLENS_CHECK(UsageError, flags.heads.empty() || flags.models.size() == 1,
                 "[reproduce] --heads, expected with one model, got {}", flags.models.size());
  parse_heads(flags.heads);
  check_range("--batch-tokens", flags.batch_tokens, 1);
  memory_cap(flags.memory, {at::Device(at::kCPU)});  // numbers that are none are said first
  SharedRun run(flags, flags.shared,
                flags.out.empty() ? flags.out : flags.out / "reproduce.journal");
  if (!flags.out.empty() && run.leads()) make_directory(flags.out);
  Study study(flags);
  StudyInfo info{study.manifest(), flags};
  run.start(identity_of(study, claims, info.manifest), info.manifest);
  const std::vector<Tried> tried = try_all(study, claims, run.pool());
  info.manifest.seconds = seconds_since(start);
  Json json = study_json(tried, info);
  const int64_t fitting = study.flags().batch_tokens;
  if (fitting < flags.batch_tokens) json["manifest"]["batch_tokens_that_fit"] = fitting;
  if (!flags.out.empty() && run.leads()) {
    write_whole_file(flags.out / "study.json", json_text(json));
    write_whole_file(flags.out / "study.html", study_page(json));
  }
  run.finish();
  if (run.leads()) print(flags.json ? json_text(json) : study_text(tried));
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
                   "checkpoint directories, zoo:NAME, zoo for the bundled ones and their variants, "
                   "variants for those alone; comma-separated")
      ->delimiter(',')
      ->default_val(std::vector<std::string>{"zoo"});
  add_run_flags(*command, *flags, "directory for study.json and study.html");
  add_shared_run_flags(*command, flags->shared);
  add_heads_flag(*command, flags->heads)
      ->description("heads for C1 and C3, as LAYER.HEAD, in place of those that a search finds");
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
  add_memory_flags(*command, flags->memory);
  add_text_flags(*command, *flags);
  command->callback([flags, &action] { action = [flags] { return reproduce(*flags); }; });
}

}  // namespace headlens::cli
