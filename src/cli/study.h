// headlens/cli: what the experiments of `reproduce` share: models, tasks, and heads once found.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/memory_notice.h"
#include "headlens/analysis/ablation_sweep.h"
#include "headlens/analysis/estimates.h"
#include "headlens/model/objective.h"

namespace headlens::cli {

/// What `reproduce` was asked for.
struct StudyFlags : CommonFlags {
  std::vector<std::string> models;  // as --models names them
  std::vector<std::string> heads;   // in place of those that a search would find
  std::string retrieval = "mcq:options=4,n=256";
  std::string knowledge = "world-facts:n=240";
  std::vector<std::string> related = {"kv:pairs=8,n=256", "world-mcq:options=4,n=256"};
  std::string dictionaries = "kv:pairs={},n=128";  // {}: how many pairs
  std::vector<int64_t> pairs = {4, 8, 16, 24};
  int64_t batch_tokens = 16384;
  MemoryFlags memory;
};

/// One model after another on the same tasks. Heads are found on examples of `seed`; what they do
/// is then measured on those of the next seed, so that the choice does not flatter the drop.
class Study {
 public:
  explicit Study(StudyFlags flags) : flags_(std::move(flags)) {}

  const StudyFlags& flags() const { return flags_; }
  /// Of the first model; there is one at least.
  Manifest manifest();
  /// Of a model, without loading it.
  const ModelIdentity& identity(const std::string& name);
  const LanguageModel& model(const std::string& name) { return loaded(name).model; }
  /// "attention", "mamba2" .., each kind of mixer that has heads, once; loads nothing.
  std::vector<std::string> kinds(const std::string& name);

  /// The first model whose heads are all attention; empty if there is none.
  const std::string& attention_model();
  /// Lets go of all models but this one and attention_model(), so that no more than two are held.
  void hold(const std::string& name);

  /// How the model's heads are swept: batches within --batch-tokens and the caps on memory, of
  /// which the weights of the other model held are taken. UsageError if the caps leave no room.
  SweepOptions sweep(const std::string& name);

  /// Memory ran out: from here on with half the tokens a batch. False if that is none.
  bool halve_batches();

  /// Devices that models have been loaded on.
  const std::vector<at::Device>& devices() const { return devices_; }

  /// The task's examples that heads and grafts are chosen on.
  std::unique_ptr<Objective> search(const std::string& name, const std::string& task);
  /// The task's examples that they are measured on.
  std::unique_ptr<Objective> fresh(const std::string& name, const std::string& task);
  /// What a task whose answers are written comes to by its first rule, these heads cut throughout.
  SweepOutcome written(const std::string& name, const std::string& task,
                       const std::vector<HeadId>& without);
  double chance(const std::string& name, const std::string& task);
  /// `find` on the examples that heads are chosen on.
  const FindResult& found(const std::string& name, const std::string& task);
  /// The heads of --heads; without it the strongest Gather and the strongest Aggregate head found
  /// there; none, one or two.
  std::vector<HeadId> strongest(const std::string& name, const std::string& task);

 private:
  const LoadedModel& loaded(const std::string& name);
  CommonFlags flags_of(const std::string& name, uint64_t seed) const;
  std::unique_ptr<Objective> objective(const std::string& name, const std::string& task,
                                       uint64_t seed);
  /// Weights of the models held but this one.
  int64_t bytes_beside(const std::string& name) const;

  StudyFlags flags_;
  std::map<std::string, LoadedModel> models_;
  std::vector<at::Device> devices_;
  std::map<std::string, ModelIdentity> identities_;
  std::optional<std::string> attention_model_;
  std::map<std::pair<std::string, std::string>, FindResult> found_;
};

}  // namespace headlens::cli
