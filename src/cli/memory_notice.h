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

/// Tokens a batch that the cap leaves room for beside the weights, `batch_tokens` at most. Says
/// what is predicted in a line on stderr, unless --quiet. UsageError if there is room for none.
int64_t tokens_within(const CommonFlags& flags, const MemoryFlags& memory,
                      const LanguageModel& model, int64_t batch_tokens);

/// Only the line, for commands that plan their batches as they go.
void memory_notice(const CommonFlags& flags, const LanguageModel& model, int64_t tokens);

/// "1.234 GiB"
std::string gib_text(int64_t bytes);

}  // namespace headlens::cli
