// headlens/cli: heads and MLPs to switch off, as several commands name them.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

#include "headlens/analysis/sweep_target.h"
#include "headlens/model/config.h"

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

}  // namespace headlens::cli
