// headlens/cli: --dry-run: what a command would run, how long it would take and what it would hold.
#include "cli/dry_run.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "cli/dry_run_subject.h"
#include "cli/heads.h"
#include "cli/output.h"
#include "cli/peak_memory.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cli/zoo.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/core/checkpoint.h"
#include "headlens/hooks/recorder.h"

namespace headlens::cli {
namespace {

/// Something that is run: work in tokens through layers, and what is not known before.
struct Stage {
  std::string name;
  double forwards = 0;      // of all examples, through all layers
  double tokens = 0;        // of all these forwards together
  double seconds = 0;       // expected
  double most_seconds = 0;  // where it depends on what is found
};

/// All prompts so many `times`, each from layer `from` on, with their judged logits.
Stage runs(const Subject& s, const std::string& name, double times, int64_t from = 0,
           double factor = 1) {
  const Prompts& p = s.prompts;
  const double seconds =
      times * factor *
      (s.cost.seconds(p.tokens, from, s.layers()) + p.judged * s.cost.logit_seconds);
  const double depth = static_cast<double>(s.layers() - from) / static_cast<double>(s.layers());
  return {name, times * depth * factor, times * p.tokens, seconds, seconds};
}

/// Every head off in turn, from its own layer on.
Stage head_sweep(const Subject& s, const std::string& name, int64_t groups) {
  Stage sum = runs(s, name, 1);
  for (int64_t layer = 0; layer < s.layers(); ++layer) {
    const Stage one = runs(s, name, s.heads_of(layer, groups), layer);
    sum.forwards += one.forwards;
    sum.tokens += one.tokens;
    sum.seconds += one.seconds;
  }
  sum.most_seconds = sum.seconds;
  return sum;
}

/// A stage of which a share is expected, and all of it possible.
Stage perhaps(const Stage& stage, const std::string& name, double share, double most = 1) {
  return {name, stage.forwards * share, stage.tokens * share, stage.seconds * share,
          stage.seconds * most};
}

/// Prompts once, then a token at a time.
Stage writing(const Subject& s, const std::string& name) {
  Stage stage = runs(s, name, 1);
  stage.tokens += s.prompts.new_tokens;
  const double more =
      s.cost.seconds(s.prompts.new_tokens) + s.prompts.new_tokens * s.cost.logit_seconds;
  stage.most_seconds += more;
  stage.seconds += more;
  return stage;
}

using Stages = std::vector<Stage>;

/// Chosen heads at their layers, or every head.
Stage heads_stage(const PlanWords& words, const Subject& s) {
  const int64_t groups = words.number("--groups", 16);
  const std::vector<HeadId> named = parse_heads(words.all("--heads"));
  if (named.empty()) return head_sweep(s, "heads", groups);
  check_heads_exist(s.config, named);
  Stage sum = runs(s, "heads", 1);
  for (const HeadId& head : single_heads(s.config, named)) {
    const Stage one = runs(s, "heads", 1, head.layer);
    sum.forwards += one.forwards, sum.tokens += one.tokens, sum.seconds += one.seconds;
  }
  sum.most_seconds = sum.seconds;
  return sum;
}

Stages find_stages(const PlanWords& words, const Subject& s) {
  const Stage heads = heads_stage(words, s);
  // Where a head acts is asked four times of heads that matter: in large models few do.
  return {heads, perhaps(heads, "where (heads that matter)", 4 * 0.1, 4), runs(s, "maps", 1)};
}

Stages circuit_stages(const PlanWords& words, const Subject& s) {
  const auto candidates = static_cast<double>(words.number("--candidates", 16));
  const auto prove = static_cast<double>(words.number("--prove", 512));
  const bool none = !words.has("--minimal") && !words.has("--pairs") && !words.has("--self-repair");
  Stages all = {heads_stage(words, s)};
  if (words.has("--minimal") || none) {
    const double sets = 1.5 * candidates * (candidates + 1);
    all.push_back(runs(s, "sets", sets));
    all.push_back(perhaps(runs(s, "", prove), "sets tried as proof", 0.5, 2));
  }
  const double named = static_cast<double>(words.all("--heads").size());
  const double heads = named > 0 ? named : candidates;
  if (words.has("--pairs")) all.push_back(runs(s, "pairs", 2 * heads * heads, s.layers() / 2));
  if (words.has("--self-repair")) all.push_back(runs(s, "self-repair", 2 * heads));
  return all;
}

Stages patch_stages(const PlanWords& words, const Subject& s) {
  std::vector<std::string> sites = words.all("--site");
  if (sites.empty()) sites = {"resid"};
  const auto positions =
      static_cast<double>(words.has("--positions") ? words.all("--positions").size() : size_t{7});
  Stages all = {runs(s, "clean and corrupted", 2)};
  for (const std::string& site : sites) {
    const bool by_head = site == "z" || site == "pattern" || site == "map" || site == "state";
    Stage sum{site};
    for (int64_t layer = 0; layer < s.layers(); ++layer) {
      const double cells =
          positions * (by_head ? s.heads_of(layer, words.number("--groups", 16)) : 1);
      const Stage one = runs(s, site, cells, layer);
      sum.forwards += one.forwards, sum.tokens += one.tokens, sum.seconds += one.seconds;
    }
    sum.most_seconds = sum.seconds;
    all.push_back(sum);
  }
  return all;
}

Stages graft_stages(const PlanWords& words, const Subject& s) {
  if (words.has("--train")) {
    const auto steps = static_cast<double>(words.number("--train", 0));
    return {runs(s, "before, grafted, cut", 3), runs(s, "training", steps / 8, 0, 3)};
  }
  const double each = words.has("--all-heads") ? static_cast<double>(all_heads(s.config, 16).size())
                      : words.has("--all-layers") || words.has("--all-mixers")
                          ? static_cast<double>(s.layers())
                          : 1;
  return {runs(s, "before", 1), runs(s, "grafts and cuts", 2 * each, s.layers() / 2)};
}

Stages prune_stages(const PlanWords& words, const Subject& s) {
  const auto depths = static_cast<double>(s.layers() + 1);
  Stage curve = runs(s, "depths", 1);
  curve.seconds += depths * s.prompts.judged * s.cost.logit_seconds;
  curve.most_seconds = curve.seconds;
  Stages all = {curve};
  if (words.has("--leave-one-out")) {
    all.push_back(runs(s, "without each layer", depths, s.layers() / 2));
  }
  if (words.has("--against") && !words.has("--heads")) {
    const Stage heads = head_sweep(s, "", words.number("--groups", 16));
    all.push_back(perhaps(heads, "heads of the minimal model", 0.5));
    all.push_back(runs(s, "contrast", 6));
  }
  return all;
}

Stages scores_stages(const PlanWords& words, const Subject& s) {
  Stages all = {runs(s, "patterns", 1)};
  if (!words.has("--task")) return all;
  Subject retrieval = subject_of(words, words.text("MODEL"), words.text("--task"));
  Prompts& p = retrieval.prompts;
  p.new_tokens = p.count * static_cast<double>(words.number("--steps", 50));
  Stage stage = writing(retrieval, "retrieval");
  stage.seconds = (stage.seconds + runs(retrieval, "", 1).seconds) / 2;  // answers are short
  all.push_back(stage);
  return all;
}

Stages reproduce_stages(const PlanWords& words, const Subject& s) {
  const std::vector<std::string> claims = words.all("CLAIM");
  const auto count = static_cast<double>(claims.empty() ? size_t{7} : claims.size());
  Stages all = find_stages(words, s);
  all.push_back(perhaps(runs(s, "", 20 * count), "claims", 0.5));
  return all;
}

Stages stages_of(const PlanWords& words, const Subject& s) {
  const std::string& name = words.command();
  if (name == "find") return find_stages(words, s);
  if (name == "circuit") return circuit_stages(words, s);
  if (name == "patch") return patch_stages(words, s);
  if (name == "graft") return graft_stages(words, s);
  if (name == "prune") return prune_stages(words, s);
  if (name == "scores") return scores_stages(words, s);
  if (name == "reproduce") return reproduce_stages(words, s);
  if (name == "ablate") return {runs(s, "before", 1), runs(s, "after", 1)};
  if (name == "compare") {
    Stages all = {runs(s, "maps", 1)};
    if (!words.has("--no-search")) all.push_back(find_stages(words, s).front());
    return all;
  }
  if (s.prompts.new_tokens > 0) return {writing(s, name)};
  return {runs(s, name, 1)};
}

/// The models that the command runs one after another.
std::vector<std::string> models_of(const PlanWords& words) {
  if (words.command() != "reproduce") {
    std::vector<std::string> models = {words.text("MODEL")};
    if (words.has("MODEL_B")) models.push_back(words.text("MODEL_B"));
    return models;
  }
  std::vector<std::string> models = words.all("--models");
  if (!models.empty() && models.front() != "zoo") return models;
  models.clear();
  for (const std::string& name : zoo_names()) models.push_back("zoo:" + name);
  return models;
}

std::string main_task(const PlanWords& words) {
  if (words.command() == "reproduce") return words.text("--retrieval", "mcq:options=4,n=256");
  return words.command() == "scores" ? "" : words.text("--task");
}

/// As stored, in the size that this run keeps them in; of random:DIR there is nothing stored.
double weight_bytes(const Subject& s) {
  if (is_random_model(s.flags.model)) return 0;
  const Checkpoint checkpoint = Checkpoint::open(model_directory(s.flags.model));
  return static_cast<double>(checkpoint.weight_bytes()) * static_cast<double>(s.cost.weight_size) /
         static_cast<double>(element_size(parse_dtype(s.config.dtype)));
}

/// Weights, a full batch, and what is recorded, on top of what this process holds before.
double memory_bytes(const PlanWords& words, const Subject& s, double resident) {
  const double batch =
      std::min(static_cast<double>(batch_tokens_of(words)),
               s.prompts.tokens * static_cast<double>(all_heads(s.config, 16).size()));
  double recorded = 0;
  const at::ScalarType dtype = chosen_dtype(s.flags.dtype).value_or(at::kFloat);
  if (words.command() == "run") {
    recorded = static_cast<double>(recording_bytes(s.config, words.all("--record"),
                                                   static_cast<int64_t>(s.prompts.count),
                                                   s.prompts.longest, dtype));
  }
  return resident + weight_bytes(s) + batch * s.cost.token_bytes + recorded;
}

Json stage_json(const std::string& model, const Stage& stage) {
  return {
      {"model", model},         {"name", stage.name},       {"forwards", stage.forwards},
      {"tokens", stage.tokens}, {"seconds", stage.seconds}, {"most_seconds", stage.most_seconds}};
}

std::string gib(double bytes) {
  return fmt::format("{:.2f} GiB", bytes / 1024 / 1024 / 1024);
}

}  // namespace

void add_dry_run_flags(CLI::App& app) {
  for (const char* name : {"run", "map", "eval", "find", "ablate", "attribute", "circuit", "patch",
                           "prune", "generate", "graft", "compare", "scores", "reproduce"}) {
    app.get_subcommand(name)->add_flag_callback(
        "--dry-run", [] {}, "run nothing: print what would run, its time and its memory");
  }
}

bool is_dry_run(const CLI::App& command) {
  const CLI::Option* option = command.get_option_no_throw("--dry-run");
  return option != nullptr && option->count() > 0;
}

int dry_run(const CLI::App& command) {
  const PlanWords words(command);
  const auto resident = static_cast<double>(peak_memory({at::kCPU}));
  Json json = {{"dry_run", true}, {"command", words.command()}, {"stages", Json::array()}};
  Table table({"<model", "<stage", "forwards", "tokens", "time", "at most"});
  double seconds = 0, most = 0, memory = 0;
  for (const std::string& model : models_of(words)) {
    const Subject s = subject_of(words, model, main_task(words));
    for (const Stage& stage : stages_of(words, s)) {
      json["stages"].push_back(stage_json(model, stage));
      table.add({model, stage.name, fmt::format("{:.1f}", stage.forwards),
                 fmt::format("{:.0f}", stage.tokens), duration_text(stage.seconds),
                 duration_text(stage.most_seconds)});
      seconds += stage.seconds, most += stage.most_seconds;
    }
    memory = std::max(memory, memory_bytes(words, s, resident));
    json["calibration"].push_back({{"model", model},
                                   {"rows", s.cost.rows},
                                   {"length", s.cost.length},
                                   {"prompts", s.prompts.count},
                                   {"seconds", s.cost.trial_seconds}});
  }
  json.update({{"seconds", seconds}, {"most_seconds", most}, {"memory_bytes", memory}});
  print(words.has("--json")
            ? json_text(json)
            : table.text() + fmt::format("about {} (at most {}), {}; nothing was run but a trial "
                                         "of each kind of layer\n",
                                         duration_text(seconds), duration_text(most), gib(memory)));
  return 0;
}

}  // namespace headlens::cli
