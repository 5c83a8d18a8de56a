// headlens/cli: one command's work shared by processes and kept in a journal.
#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cli/common.h"
#include "headlens/analysis/work_pool.h"

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
  /// Opens the journal; `manifest` gets the command and the time with which the run first began.
  void start(const RunIdentity& identity, Manifest& manifest);
  /// The output is written: removes the journal, lets the other processes end.
  void finish() { pool_->finish(); }

 private:
  std::filesystem::path journal_;
  bool resume_;
  std::unique_ptr<WorkPool> pool_;
};

}  // namespace headlens::cli
