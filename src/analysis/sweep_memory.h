// headlens/analysis: how many variants a batch may hold, from what the batches before it took.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "headlens/analysis/ablation_sweep.h"
#include "headlens/model/language_model.h"

namespace headlens {

/// Bytes of tensors on a model's devices: the allocators' own counts on GPUs; on the CPU its
/// weights and what this thread has allocated since the watch began.
class MemoryWatch {
 public:
  explicit MemoryWatch(const LanguageModel& model);
  ~MemoryWatch();
  MemoryWatch(const MemoryWatch&) = delete;
  MemoryWatch& operator=(const MemoryWatch&) = delete;

  int64_t weights() const { return weights_; }
  int64_t held() const;
  int64_t peak() const;  // since the last `reset_peak`
  void reset_peak();

 private:
  class HostCount;
  std::vector<at::Device> devices_;
  int64_t weights_ = 0;
  std::shared_ptr<HostCount> host_;
  std::unique_ptr<c10::DebugInfoGuard> counting_;
};

/// Plans the batches of a sweep.
class BatchPlanner {
 public:
  /// `most_variants`: there are at the most to put into one batch.
  BatchPlanner(const LanguageModel& model, const SweepOptions& options, int64_t most_variants);

  /// Variants of `tokens` row x pos that the next batch may hold, at least one. UsageError where
  /// memory is capped and one does not fit.
  int64_t next(int64_t tokens);
  /// Around each batch: `begin`, then `end` with what it held.
  void begin();
  void end(int64_t tokens);
  /// A batch of so many variants ran out of memory: false if there is nothing left to halve.
  bool ran_out(int64_t variants, int64_t tokens);
  const SweepMemory& memory() const { return memory_; }

 private:
  /// A batch that was run: its row x pos, and what it took on top of what was held.
  struct Point {
    int64_t tokens = 0, bytes = 0;
  };
  int64_t planned_bytes(int64_t tokens) const;
  void announce(int64_t variants, int64_t tokens);

  int64_t most_tokens_, most_variants_;
  int64_t cap_ = 0;
  std::unique_ptr<MemoryWatch> watch_;  // null: no cap
  Point before_, last_;                 // the two largest batches so far
  int64_t excess_ = 0;                  // that another batch took beyond the line through them
  int64_t held_ = 0;                    // when the batch began
  SweepMemory memory_;
};

}  // namespace headlens
