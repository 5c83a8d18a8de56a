// headlens/cli: flags that several commands share, and what they load.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
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
  std::string model;   // checkpoint directory, zoo:NAME or random:DIR
  std::string device;  // empty: cuda if there is one
  std::string dtype;   // empty: the checkpoint's on CUDA, float32 on the CPU
  std::filesystem::path out;
  uint64_t seed = 0;
  bool quiet = false;
  bool json = false;
  bool tf32 = false;      // float32 products in TF32 on a GPU
  bool bos = false;       // put the tokenizer's start token before prompts
  std::string tokenizer;  // a file or directory; empty: that of the model's directory
};

/// How heads are cut, as `find` and `ablate` take it.
struct AblationFlags {
  std::string mode = "zero";
  std::string placement = "post_norm";
  int64_t batch_tokens = 16384;
  double gpu_memory = 0;   // GiB; 0: no cap
  double host_memory = 0;  // GiB; 0: no cap
};

/// Adds MODEL and the common flags; `out_help` says what --out means here.
void add_common_flags(CLI::App& command, CommonFlags& flags, const std::string& out_help);
void add_seed_flag(CLI::App& command, uint64_t& seed);
/// The same without MODEL, for commands that take several.
void add_run_flags(CLI::App& command, CommonFlags& flags, const std::string& out_help);
/// Adds --bos and --tokenizer, for commands that may read text.
void add_text_flags(CLI::App& command, CommonFlags& flags);
void add_task_flag(CLI::App& command, std::string& task);
void add_ablation_flags(CLI::App& command, AblationFlags& flags);

/// UsageError for a word or number that is none of those offered.
SweepOptions sweep_options(const AblationFlags& flags);
/// UsageError if no layer of the model has a place before the norm.
void check_placement(const ModelConfig& config, Placement placement);
/// UsageError for a --device or --dtype that no command knows, for commands that load no model.
void check_common_flags(const CommonFlags& flags);
/// UsageError if --bos asks for a start token that the tokenizer does not add to `text`.
void check_bos(const CommonFlags& flags, const Tokenizer& tokenizer, const std::string& text);
/// UsageError naming `flag` unless `value` lies within `least` and `most`.
void check_range(const char* flag, int64_t value, int64_t least, int64_t most = INT32_MAX);

/// The --dtype, if one is given. UsageError for a word that names none.
std::optional<at::ScalarType> chosen_dtype(const std::string& word);

/// The directory of a MODEL argument. UsageError for an unknown zoo model or a path that is no
/// directory.
std::filesystem::path model_directory(const std::string& model);
/// Whether MODEL is random:DIR: the shape of a directory's config.json, weights drawn anew.
bool is_random_model(const std::string& model);
/// The config of a MODEL argument and what identifies its checkpoint, without its weights.
struct ModelIdentity {
  ModelConfig config;
  std::string fingerprint;
};
ModelIdentity identify_model(const CommonFlags& flags);

/// A model with what its directory holds besides weights.
struct LoadedModel {
  LanguageModel model;
  std::filesystem::path directory;
};
LoadedModel load_model(const CommonFlags& flags);
/// That of --tokenizer, else of the model's directory. UsageError if --tokenizer names no file.
Tokenizer load_tokenizer(const LoadedModel& loaded, const CommonFlags& flags);

/// A task as a model with this tokenizer reads it.
struct LoadedTask {
  TaskInfo info;
  std::vector<TokenizedExample> examples;
};
LoadedTask load_task(const std::string& spec, const LoadedModel& loaded, const CommonFlags& flags);

/// Where a result comes from; `seconds` is filled by the caller. Without a model: but for its
/// fingerprint and certificate.
Manifest make_manifest(const CommonFlags& flags, const ModelConfig& config);
Manifest make_manifest(const CommonFlags& flags, const LoadedModel& loaded);
/// Remembers the command line for the manifest.
void set_command_line(int argc, const char* const* argv);

}  // namespace headlens::cli
