// headlens/cli: how much memory a run will want, said before it, and how much there is.
#pragma once

#include <cstdint>

#include "cli/common.h"

namespace headlens::cli {

/// --max-gpu-memory and --max-host-memory in GiB; 0: no cap.
struct MemoryFlags {
  double gpu = 0, host = 0;
};
void add_memory_flags(CLI::App& command, MemoryFlags& flags);
/// Of the memory that a model on these devices works in. 0: no cap. UsageError for a number below
/// 0.
int64_t memory_cap(const MemoryFlags& flags, const std::vector<at::Device>& devices);
int64_t gib_bytes(const char* flag, double gib);

/// Bytes that this process can still take on the host (its control group's limit counted), or on
/// the device with least left.
int64_t free_memory(const std::vector<at::Device>& devices);
int64_t free_host_memory();

/// About what one token of a forward takes at most: all that the layer with most of it makes for a
/// token, and the residuals around it, in at least float32.
int64_t token_bytes(const ModelConfig& config);

/// What a batch must have room for, and beside what.
struct MemoryNeeds {
  int64_t least_tokens = 1;  // of the longest text, where a forward holds whole ones
  int64_t beside_bytes = 0;  // of other models' weights
  bool map_figures = false;  // figures of every map are taken on the way
};

/// About what figures of maps take beside the forward on the CPU: blocks of rows of the widest
/// layer's maps. (On a GPU kernels stream them.)
int64_t figure_bytes(const ModelConfig& config, int64_t tokens);

/// Tokens a batch that the cap leaves room for beside the weights, `batch_tokens` at most.
/// UsageError if there is not even room for the least.
int64_t room_for_tokens(const MemoryFlags& memory, const LanguageModel& model, int64_t batch_tokens,
                        const MemoryNeeds& needs = {});
/// The same; says what is predicted in a line on stderr, unless --quiet.
int64_t tokens_within(const CommonFlags& flags, const MemoryFlags& memory,
                      const LanguageModel& model, int64_t batch_tokens,
                      const MemoryNeeds& needs = {});

/// Only the line, for commands that plan their batches as they go.
void memory_notice(const CommonFlags& flags, const LanguageModel& model, int64_t tokens,
                   const MemoryNeeds& needs = {});

/// "1.234 GiB"
std::string gib_text(int64_t bytes);

}  // namespace headlens::cli
