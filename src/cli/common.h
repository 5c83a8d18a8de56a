// headlens/cli: flags that every command shares, and what they load.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/model/language_model.h"
#include "headlens/model/tokenizer.h"
#include "headlens/report/manifest.h"
#include "headlens/tasks/task.h"

namespace headlens::cli {

/// The common flags of the contract.
struct CommonFlags {
  std::string model;   // checkpoint directory or zoo:NAME
  std::string device;  // empty: cuda if there is one
  std::string dtype;   // empty: the checkpoint's on CUDA, float32 on the CPU
  std::filesystem::path out;
  uint64_t seed = 0;
  bool quiet = false;
  bool json = false;
  bool bos = false;  // put the tokenizer's start token before prompts
};

/// Adds the flags; `takes_model` adds the positional MODEL.
void add_common_flags(CLI::App& command, CommonFlags& flags, bool takes_model = true);

/// The directory of a MODEL argument. UsageError for an unknown zoo model or a path that is no
/// directory.
std::filesystem::path model_directory(const std::string& model);

/// A model with what its directory holds besides weights.
struct LoadedModel {
  LanguageModel model;
  std::filesystem::path directory;
};
LoadedModel load_model(const CommonFlags& flags);
Tokenizer load_tokenizer(const std::filesystem::path& directory);

/// A task as a model with this tokenizer reads it.
struct LoadedTask {
  TaskInfo info;
  std::vector<TokenizedExample> examples;
};
LoadedTask load_task(const std::string& spec, const Tokenizer& tokenizer, const CommonFlags& flags);

/// Where a result comes from; `seconds` is filled by the caller.
Manifest make_manifest(const CommonFlags& flags, const LanguageModel& model);
/// Remembers the command line for the manifest.
void set_command_line(int argc, const char* const* argv);

/// "3.7" or "3.10-20" (channels), comma-separated. UsageError naming the piece that is not of that
/// form.
std::vector<HeadId> parse_heads(const std::vector<std::string>& words);
/// "3.7", "3.10-20".
std::string head_text(const HeadId& head);
/// UsageError for another word.
AblationMode parse_mode(const std::string& word);
Placement parse_placement(const std::string& word);

/// Prints to stdout.
void print(const std::string& text);

}  // namespace headlens::cli
