// headlens/cli: heads and MLPs to switch off, as several commands name them.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/hooks/hook_set.h"

namespace headlens::cli {

/// What is switched off together.
struct CutFlags {
  std::vector<std::string> heads;
  std::vector<int64_t> layers;  // all their heads
  std::vector<int64_t> mlps;
  bool keep = false;  // the others of the layers named in place of the heads named
  bool names_heads() const { return !heads.empty() || !layers.empty(); }
};

/// --heads, --layers, --mlp and --keep.
void add_cut_flags(CLI::App& command, CutFlags& flags);
/// UsageError, opening with `command`, for --keep without heads to keep.
void check_cut_flags(const char* command, const CutFlags& flags);
/// The heads that are cut. UsageError for a head or layer that is not there, HookError where --keep
/// leaves none.
std::vector<HeadId> cut_heads(const ModelConfig& config, const CutFlags& flags);
/// These and the MLPs. UsageError besides for a layer without one.
SweepTarget cut_target(const ModelConfig& config, const CutFlags& flags);

/// What is switched off while text is written, and how.
struct WritingCutFlags : CutFlags {
  std::string mode = "zero";
  std::string placement = "post_norm";
};
/// Those of add_cut_flags, --mode and --placement.
void add_writing_cut_flags(CLI::App& command, WritingCutFlags& flags);
/// Their mode and placement. UsageError, opening with `command`, for flags that would do nothing,
/// and for a mode that needs other outputs than the head's own.
SweepOptions cut_options(const char* command, const WritingCutFlags& flags);
/// Cuts the heads and MLPs in every forward that `hooks` is a tap of.
void add_cuts(const LanguageModel& model, const CutFlags& flags, const SweepOptions& options,
              HookSet& hooks);

}  // namespace headlens::cli
