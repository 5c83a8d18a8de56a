// headlens/cli: one command's work shared by processes and kept in a journal.
#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/output_lock.h"
#include "headlens/analysis/work_pool.h"
#include "headlens/core/kept_steps.h"

namespace headlens::cli {

struct SharedRunFlags {
  bool resume = false;
  double lost_after = 30;  // seconds
};

/// --resume and --lost-after.
void add_shared_run_flags(CLI::App& command, SharedRunFlags& flags);

/// A digest of everything of a task that a model sees: two files of one name may differ.
std::string task_digest(const std::vector<TokenizedExample>& examples);

/// A digest of the files that the model's tokenizer is read from.
std::string tokenizer_digest(const CommonFlags& flags);

/// What results depend on: the model, the task, versions, and `options` besides.
RunIdentity run_identity(const Manifest& manifest, const CommonFlags& flags, const TaskInfo& task,
                         const std::string& digest,
                         const std::map<std::string, std::string>& options);

/// Steps kept by a pool, each done by one of its processes.
KeptSteps steps_of(WorkPool& pool);

/// The journal beside an output file, where there is one.
std::filesystem::path journal_beside(const std::filesystem::path& out);

/// The options given to a command, name by name, but for those that change no result (where it goes
/// to, what is printed, what goes on): part of what its results depend on.
std::map<std::string, std::string> given_options(const CLI::App& command);

/// This process's part of a command. Made before the model is loaded, so that all processes meet
/// early; one that ends without `finish` is lost to the others.
class SharedRun {
 public:
  /// Reads the launcher's variables. With one, `flags.device` becomes cuda:LOCAL_RANK where none is
  /// named, and processes other than the first stay silent. `journal`: the file of process 0,
  /// empty: none. UsageError if there is one already, without --resume or a launcher's restart.
  SharedRun(CommonFlags& flags, const SharedRunFlags& shared, std::filesystem::path journal);

  bool leads() const { return pool_->leads(); }
  WorkPool& pool() { return *pool_; }
  /// `work(tokens, pool)` with that many tokens a batch; where memory runs out, again with half of
  /// them, down to `least`, whose error is thrown. With several processes there is no second try:
  /// their batches would no longer be the same.
  void shrink_to_fit(int64_t tokens, const std::function<void(int64_t, WorkPool&)>& work,
                     int64_t least = 1);
  /// How often memory ran out, and the tokens a batch that then did; nothing if it never did.
  struct Shrunk {
    int64_t times = 0, tokens = 0;
  };
  const std::optional<Shrunk>& shrunk() const { return shrunk_; }
  /// The same among a manifest's options.
  void note_shrunk(std::map<std::string, std::string>& options) const;

  /// Opens the journal; `manifest` gets the command and the time with which the run first began.
  void start(const RunIdentity& identity, Manifest& manifest);
  /// The same for a command whose results depend on all that `command` was given, on this task and
  /// on `digest`, what it came to.
  void start(const CLI::App& command, const CommonFlags& flags, const TaskInfo& task,
             const std::string& digest, Manifest& manifest);
  /// The output is written: removes the journal, lets the other processes end.
  void finish();

 private:
  std::filesystem::path journal_;
  bool resume_, alone_ = true;
  std::unique_ptr<WorkPool> pool_;
  std::optional<Shrunk> shrunk_;
  std::optional<OutputLock> lock_;
  std::optional<InterruptNote> note_;
};

}  // namespace headlens::cli
