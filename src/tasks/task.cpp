// headlens/tasks: tasks by name.
#include "headlens/tasks/task.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/check.h"
#include "core/near_words.h"
#include "headlens/tasks/icl_map.h"
#include "headlens/tasks/jsonl.h"
#include "headlens/tasks/kv_retrieval.h"
#include "headlens/tasks/multiple_choice.h"
#include "headlens/tasks/recall.h"
#include "headlens/tasks/world.h"
#include "tasks/data_tasks.h"
#include "tasks/prompts.h"
#include "tasks/task_spec.h"

namespace headlens {
namespace {

constexpr int64_t kMaxExamples = 1'000'000;
constexpr const char* kJsonl = "jsonl";

using Params = std::map<std::string, int64_t>;

/// A task made from integers and a seed.
struct MadeTask {
  std::string name;
  std::vector<TaskParam> params;
  std::vector<Example> (*make)(const Params& params, uint64_t seed);
};

int64_t fact_count() {
  const World& world = made_up_world();
  return std::ssize(world.entities) * std::ssize(world.relations);
}

/// Tasks of copying and recall; n comes last.
std::vector<MadeTask> recall_tasks() {
  const TaskParam n = {"n", 512, 1, kMaxExamples};
  return {
      {"mqar",
       {{"pairs", 16, 2, 128}, {"queries", 4, 1, 128}, n},
       [](const Params& p, uint64_t seed) {
         return make_mqar({p.at("pairs"), p.at("queries"), p.at("n")}, seed);
       }},
      {"copy",
       {{"length", 20, 3, 256}, n},
       [](const Params& p, uint64_t seed) {
         return make_copy({p.at("length"), p.at("n")}, seed);
       }},
      {"copy-ngram",
       {{"firsts", 4, 2, 11}, {"seconds", 4, 2, 11}, n},
       [](const Params& p, uint64_t seed) {
         return make_ngram_lookup({p.at("firsts"), p.at("seconds"), p.at("n")}, seed);
       }},
      {"induction",
       {{"length", 20, 3, 256}, n},
       [](const Params& p, uint64_t seed) {
         return make_induction({p.at("length"), p.at("n")}, seed);
       }},
      {"selective-copy",
       {{"items", 8, 3, 128}, {"length", 32, 3, 1024}, n},
       [](const Params& p, uint64_t seed) {
         return make_selective_copy({p.at("items"), p.at("length"), p.at("n")}, seed);
       }},
      {"icl-map",
       {{"shots", 4, 1, 6}, n},
       [](const Params& p, uint64_t seed) {
         return make_icl_map({p.at("shots"), p.at("n")}, seed);
       }},
  };
}

std::vector<MadeTask> all_made_tasks() {
  std::vector<MadeTask> tasks = {
      {"kv",
       {{"pairs", 20, 2, kDictionaryValues}, {"n", 512, 1, kMaxExamples}},
       [](const Params& p, uint64_t seed) {
         return make_kv_retrieval({p.at("pairs"), p.at("n")}, seed);
       }},
      {"mcq",
       {{"options", 4, 2, kMaxLetters}, {"n", 512, 1, kMaxExamples}},
       [](const Params& p, uint64_t seed) {
         return make_multiple_choice({p.at("options"), p.at("n")}, seed);
       }},
      {"world-facts",
       {{"n", fact_count(), 1, fact_count()}},
       [](const Params& p, uint64_t seed) { return make_world_facts(p.at("n"), seed); }},
      {"world-mcq",
       {{"options", 4, 2, kMaxLetters}, {"n", 512, 1, kMaxExamples}},
       [](const Params& p, uint64_t seed) {
         return make_world_choice(p.at("options"), p.at("n"), seed);
       }},
  };
  const std::vector<MadeTask> recall = recall_tasks();
  tasks.insert(tasks.begin() + 2, recall.begin(), recall.end());
  return tasks;
}

const std::vector<MadeTask>& made_tasks() {
  static const std::vector<MadeTask> tasks = all_made_tasks();
  return tasks;
}

std::vector<std::string> task_names() {
  std::vector<std::string> names;
  for (const MadeTask& task : made_tasks()) names.push_back(task.name);
  for (const DataTask& task : data_tasks()) names.push_back(task.name);
  names.emplace_back(kJsonl);
  return names;
}

Task make_jsonl_task(const TaskSpec& spec) {
  HEADLENS_CHECK(UsageError, !spec.rest.empty(), "[task] jsonl, expected jsonl:FILE, got no file");
  Task task;
  task.examples = load_jsonl(spec.rest);
  task.info.params["file"] = spec.rest;
  return task;
}

Task make_made_task(const MadeTask& kind, const TaskSpec& spec, uint64_t seed) {
  const Params params = read_params(spec, kind.params);
  Task task;
  task.examples = kind.make(params, seed);
  for (const auto& [name, value] : params) task.info.params[name] = std::to_string(value);
  return task;
}

Task make_data_task(const DataTask& kind, const TaskSpec& spec) {
  const DataSpec parts = read_data_spec(spec, kind.kind, kind.params);
  Task task;
  task.examples = kind.load(parts);
  for (const auto& [name, value] : parts.values) {
    if (!value.empty()) task.info.params[name] = value;
  }
  task.info.params["path"] = parts.path;
  return task;
}

/// The kind of that name, or nullptr.
template <typename Kind>
const Kind* find_kind(const std::vector<Kind>& kinds, const std::string& name) {
  const auto kind =
      std::find_if(kinds.begin(), kinds.end(), [&](const Kind& k) { return k.name == name; });
  return kind == kinds.end() ? nullptr : &*kind;
}

Task make_any_task(const TaskSpec& spec, uint64_t seed) {
  if (const MadeTask* made = find_kind(made_tasks(), spec.name)) {
    return make_made_task(*made, spec, seed);
  }
  if (const DataTask* read = find_kind(data_tasks(), spec.name)) return make_data_task(*read, spec);
  HEADLENS_CHECK(UsageError, spec.name == kJsonl, "[task] task, expected one of {}, got '{}'{}",
                 fmt::join(task_names(), ", "), spec.name, suggestion(spec.name, task_names()));
  return make_jsonl_task(spec);
}

}  // namespace

Task make_task(std::string_view spec, uint64_t seed) {
  const TaskSpec parts = split_spec(spec);
  Task task = make_any_task(parts, seed);
  task.info.spec = std::string(spec);
  task.info.name = parts.name;
  task.info.examples = std::ssize(task.examples);
  task.info.seed = seed;
  return task;
}

std::vector<std::string> known_tasks() {
  std::vector<std::string> specs;
  for (const MadeTask& task : made_tasks()) {
    std::vector<std::string> params;
    for (const TaskParam& param : task.params) {
      params.push_back(fmt::format("{}={}", param.name, param.fallback));
    }
    specs.push_back(fmt::format("{}:{}", task.name, fmt::join(params, ",")));
  }
  for (const DataTask& task : data_tasks()) {
    specs.push_back(data_usage(task.name, task.kind, task.params));
  }
  specs.emplace_back("jsonl:FILE");
  return specs;
}

}  // namespace headlens
