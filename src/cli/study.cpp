// headlens/cli: models, tasks and heads of the experiments, each loaded or found once.
#include "cli/study.h"

#include <algorithm>

#include "cli/heads.h"
#include "cli/written_answers.h"
#include "headlens/analysis/gather_aggregate.h"
#include "headlens/core/checkpoint.h"
#include "headlens/model/families.h"
#include "headlens/tasks/objective.h"

namespace headlens::cli {

CommonFlags Study::flags_of(const std::string& name, uint64_t seed) const {
  CommonFlags flags = flags_;
  flags.model = name;
  flags.seed = seed;
  return flags;
}

const LoadedModel& Study::loaded(const std::string& name) {
  const auto known = models_.find(name);
  if (known != models_.end()) return known->second;
  LoadedModel& made = models_.emplace(name, load_model(flags_of(name, flags_.seed))).first->second;
  for (const at::Device& device : made.model.devices()) {
    if (std::find(devices_.begin(), devices_.end(), device) == devices_.end()) {
      devices_.push_back(device);
    }
  }
  tokens_within(flags_, flags_.memory, made.model, flags_.batch_tokens,
                {.beside_bytes = bytes_beside(name)});
  return made;
}

int64_t Study::bytes_beside(const std::string& name) const {
  int64_t bytes = 0;
  for (const auto& [other, held] : models_) {
    if (other != name) bytes += held.model.weight_bytes();
  }
  return bytes;
}

SweepOptions Study::sweep(const std::string& name) {
  const LanguageModel& own = model(name);
  const int64_t beside = bytes_beside(name);
  SweepOptions options;
  options.max_batch_tokens =
      room_for_tokens(flags_.memory, own, flags_.batch_tokens, {.beside_bytes = beside});
  options.max_gpu_bytes = gib_bytes("--max-gpu-memory", flags_.memory.gpu);
  const int64_t host = gib_bytes("--max-host-memory", flags_.memory.host);
  // A sweep counts its own model's weights, and takes 0 for no cap.
  if (host > 0) options.max_host_bytes = std::max<int64_t>(1, host - beside);
  return options;
}

Manifest Study::manifest() {
  const std::string& name = flags_.models.front();
  return make_manifest(flags_of(name, flags_.seed), identity(name).config);
}

const ModelIdentity& Study::identity(const std::string& name) {
  const auto known = identities_.find(name);
  if (known != identities_.end()) return known->second;
  return identities_.emplace(name, identify_model(flags_of(name, flags_.seed))).first->second;
}

std::vector<std::string> Study::kinds(const std::string& name) {
  std::vector<std::string> kinds;
  for (const LayerSpec& layer : identity(name).config.layers) {
    for (const HeadBank& bank : head_banks(layer)) {
      const std::string kind = layer_kind_name(bank.kind);
      if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
    }
  }
  return kinds;
}

const std::string& Study::attention_model() {
  if (attention_model_) return *attention_model_;
  const std::vector<std::string> attention = {layer_kind_name(LayerKind::Attention)};
  for (const std::string& name : flags_.models) {
    if (kinds(name) == attention) return attention_model_.emplace(name);
  }
  return attention_model_.emplace();
}

void Study::hold(const std::string& name) {
  const std::string& beside = attention_model();
  std::erase_if(models_,
                [&](const auto& held) { return held.first != name && held.first != beside; });
}

bool Study::halve_batches() {
  flags_.batch_tokens /= 2;
  return flags_.batch_tokens > 0;
}

std::unique_ptr<Objective> Study::objective(const std::string& name, const std::string& task,
                                            uint64_t seed) {
  LoadedTask made = load_task(task, loaded(name), flags_of(name, seed));
  return make_choice_objective(std::move(made.examples), sweep(name).max_batch_tokens);
}

std::unique_ptr<Objective> Study::search(const std::string& name, const std::string& task) {
  return objective(name, task, flags_.seed);
}

std::unique_ptr<Objective> Study::fresh(const std::string& name, const std::string& task) {
  return objective(name, task, flags_.seed + 1);
}

SweepOutcome Study::written(const std::string& name, const std::string& task,
                            const std::vector<HeadId>& without) {
  CommonFlags flags = flags_of(name, flags_.seed);
  flags.quiet = true;  // the progress of claims is shown
  WritingOptions options;
  options.batch_tokens = sweep(name).max_batch_tokens;
  for (const HeadId& head : without) options.cut.heads.push_back(head_text(head));
  const GenerativeTask made = make_generative_task(task);
  return judge_answers(made, made.rules.front(), write_answers(loaded(name), flags, made, options));
}

double Study::chance(const std::string& name, const std::string& task) {
  const LoadedTask made = load_task(task, loaded(name), flags_of(name, flags_.seed + 1));
  double sum = 0;
  for (const TokenizedExample& example : made.examples) {
    sum += 1 / static_cast<double>(example.choice_ids.size());
  }
  return sum / static_cast<double>(made.examples.size());
}

const FindResult& Study::found(const std::string& name, const std::string& task) {
  const auto known = found_.find({name, task});
  if (known != found_.end()) return known->second;
  LoadedTask made = load_task(task, loaded(name), flags_of(name, flags_.seed));
  FindOptions options;
  options.sweep = sweep(name);
  options.map_samples = 0;
  const auto heads = all_heads(model(name).config(), options.mamba1_groups);
  if (std::ssize(heads) > kManyHeads) options.screen.emplace();
  const auto objective =
      make_choice_objective(std::move(made.examples), options.sweep.max_batch_tokens);
  FindResult result = find_gather_aggregate(model(name), *objective, options);
  return found_.emplace(std::pair(name, task), std::move(result)).first->second;
}

std::vector<HeadId> Study::strongest(const std::string& name, const std::string& task) {
  if (!flags_.heads.empty()) {
    std::vector<HeadId> named = parse_heads(flags_.heads);
    check_heads_exist(identity(name).config, named);
    return named;
  }
  const FindResult& result = found(name, task);
  std::vector<HeadId> heads;
  if (!result.gather.empty()) heads.push_back(result.gather.front());
  if (!result.aggregate.empty()) heads.push_back(result.aggregate.front());
  return heads;
}

}  // namespace headlens::cli
