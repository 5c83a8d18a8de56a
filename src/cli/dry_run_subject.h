// headlens/cli: what a dry run plans with: the words of the command, and a model with its prompts.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "cli/calibration.h"

namespace headlens::cli {

/// The words of a command line that a plan reads.
class PlanWords {
 public:
  explicit PlanWords(const CLI::App& command) : command_(command) {}
  const std::string& command() const { return command_.get_name(); }
  bool has(const char* name) const { return !all(name).empty(); }
  std::vector<std::string> all(const char* name) const;
  std::string text(const char* name, const std::string& fallback = "") const;
  int64_t number(const char* name, int64_t fallback) const;

 private:
  const CLI::App& command_;
};

/// What is run over and over: prompts, and how many rows of logits are judged.
struct Prompts {
  std::string name;       // the task, or "text"
  double count = 0;       // prompts
  double tokens = 0;      // of all of them, with what choices add
  double judged = 0;      // rows of logits
  double new_tokens = 0;  // written after them, at most
  int64_t longest = 0;
};

/// One model with its prompts and the trial.
struct Subject {
  CommonFlags flags;
  ModelConfig config;
  Prompts prompts;
  Calibration cost;
  int64_t layers() const { return std::ssize(config.layers); }
  /// Heads of a layer, of Mamba-1 channel groups.
  double heads_of(int64_t layer, int64_t groups) const;
};

/// --batch-tokens, or its default.
int64_t batch_tokens_of(const PlanWords& words);

/// The model with the prompts of `task`, or, where that is empty, of the command's texts; and the
/// trial of its layers. Errors as the command's own.
Subject subject_of(const PlanWords& words, const std::string& model, const std::string& task);

}  // namespace headlens::cli
