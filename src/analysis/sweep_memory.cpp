// headlens/analysis: how many variants a batch may hold, from what the batches before it took.
#include "analysis/sweep_memory.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>

#include "core/check.h"
#include "core/out_of_memory.h"
#include "headlens/core/log.h"

namespace headlens {
namespace {

double gib(int64_t bytes) {
  return static_cast<double>(bytes) / (1024.0 * 1024 * 1024);
}

}  // namespace

/// Listens to PyTorch's CPU allocator, as its profiler does.
class MemoryWatch::HostCount final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device device) override {
    if (!device.is_cpu()) return;
    held += size;
    peak = std::max(peak, held);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t held = 0, peak = 0;
};

MemoryWatch::MemoryWatch(const LanguageModel& model) : weights_(model.weight_bytes()) {
  for (const at::Device& device : model.devices()) {
    if (!device.is_cpu()) devices_.push_back(device);
  }
  if (!devices_.empty()) return;
  host_ = std::make_shared<HostCount>();
  counting_ = std::make_unique<c10::DebugInfoGuard>(c10::DebugInfoKind::PROFILER_STATE, host_);
}

MemoryWatch::~MemoryWatch() = default;

int64_t MemoryWatch::held() const {
  if (host_) return weights_ + host_->held;
  int64_t most = 0;
  for (const at::Device& device : devices_) {
    const auto stats = at::accelerator::getDeviceStats(device.index());
    most = std::max(most, stats.allocated_bytes[0].current);
  }
  return most;
}

int64_t MemoryWatch::peak() const {
  if (host_) return weights_ + host_->peak;
  int64_t most = 0;
  for (const at::Device& device : devices_) {
    const auto stats = at::accelerator::getDeviceStats(device.index());
    most = std::max(most, stats.allocated_bytes[0].peak);
  }
  return most;
}

void MemoryWatch::reset_peak() {
  if (host_) host_->peak = host_->held;
  for (const at::Device& device : devices_) at::accelerator::resetPeakStats(device.index());
}

BatchPlanner::BatchPlanner(const LanguageModel& model, const SweepOptions& options,
                           int64_t most_variants)
    : most_tokens_(options.max_batch_tokens), most_variants_(most_variants) {
  HEADLENS_CHECK(UsageError, options.max_batch_tokens > 0,
                 "[ablate] tokens a batch, expected at least 1, got {}", options.max_batch_tokens);
  const auto devices = model.devices();
  const bool on_host = std::all_of(devices.begin(), devices.end(),
                                   [](const at::Device& device) { return device.is_cpu(); });
  cap_ = on_host ? options.max_host_bytes : options.max_gpu_bytes;
  HEADLENS_CHECK(UsageError, cap_ >= 0, "[sweep] cap on memory, expected at least 0 bytes, got {}",
                 cap_);
  if (cap_ == 0) return;
  watch_ = std::make_unique<MemoryWatch>(model);
  watch_->reset_peak();
  memory_.weights = watch_->weights();
  memory_.peak = watch_->held();
}

/// The line through the last two batches that were larger than those before.
int64_t BatchPlanner::planned_bytes(int64_t tokens) const {
  const double slope = static_cast<double>(last_.bytes - before_.bytes) /
                       static_cast<double>(last_.tokens - before_.tokens);
  const auto grown = slope * static_cast<double>(tokens - last_.tokens);
  return watch_->held() + last_.bytes + static_cast<int64_t>(std::max(grown, 0.0)) + excess_;
}

int64_t BatchPlanner::next(int64_t tokens) {
  const int64_t most = std::clamp<int64_t>(most_tokens_ / tokens, 1, most_variants_);
  if (!watch_) return most;
  if (before_.tokens == 0) return std::min<int64_t>(most, last_.tokens == 0 ? 1 : 2);
  HEADLENS_CHECK(
      UsageError, planned_bytes(tokens) <= cap_,
      "[sweep] cap on memory, expected at least the {:.4f} GiB of one variant, got {:.4f}",
      gib(planned_bytes(tokens)), gib(cap_));
  int64_t variants = most;
  while (variants > 1 && planned_bytes(variants * tokens) > cap_) --variants;
  // What a batch takes need not grow in a line far away: no batch is more than twice the largest.
  const int64_t grown = std::max<int64_t>(1, 2 * last_.tokens / tokens);
  if (variants > grown) return grown;
  if (memory_.variants == 0) announce(variants, tokens);
  return variants;
}

void BatchPlanner::announce(int64_t variants, int64_t tokens) {
  memory_.prefix = watch_->held() - memory_.weights;
  memory_.variants = variants;
  memory_.predicted = planned_bytes(variants * tokens);
  memory_.per_variant = (memory_.predicted - watch_->held()) / variants;
  log_info(fmt::format(
      "[sweep] memory: weights {:.3f} GiB, shared by all variants {:.3f}, a variant {:.4f}; {} "
      "variants a batch, {:.3f} GiB in all",
      gib(memory_.weights), gib(memory_.prefix), gib(memory_.per_variant), variants,
      gib(memory_.predicted)));
}

void BatchPlanner::begin() {
  if (!watch_) return;
  memory_.peak = std::max(memory_.peak, watch_->peak());
  watch_->reset_peak();
  held_ = watch_->held();
}

void BatchPlanner::end(int64_t tokens) {
  if (!watch_) return;
  const int64_t took = watch_->peak() - held_;
  memory_.peak = std::max(memory_.peak, watch_->peak());
  if (tokens > last_.tokens) {
    before_ = std::exchange(last_, {tokens, took});
  } else if (before_.tokens > 0) {  // another layer, another shape: what took more counts
    excess_ += std::max<int64_t>(0, held_ + took - planned_bytes(tokens));
  }
}

bool BatchPlanner::ran_out(int64_t variants, int64_t tokens) {
  if (variants <= 1) return false;
  most_tokens_ = variants / 2 * tokens;
  ++memory_.out_of_memory;
  release_memory();
  log_warn(fmt::format("[sweep] out of memory with {} variants a batch; going on with {}", variants,
                       variants / 2));
  return true;
}

}  // namespace headlens
