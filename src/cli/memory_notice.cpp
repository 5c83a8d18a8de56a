// headlens/cli: how much memory a run will want, said before it, and how much there is.
#include "cli/memory_notice.h"

#include <ATen/DeviceAccelerator.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "core/check.h"
#include "headlens/core/log.h"

namespace headlens::cli {
namespace {

bool on_host(const std::vector<at::Device>& devices) {
  return std::all_of(devices.begin(), devices.end(), [](at::Device d) { return d.is_cpu(); });
}

/// The number in a file of the control group; nothing where there is none, or "max".
std::optional<int64_t> group_number(const char* path) {
  std::ifstream file(path);
  int64_t bytes = 0;
  if (file >> bytes) return bytes;
  return std::nullopt;
}

/// What of the control group's memory the kernel would give back: files that nobody reads.
int64_t idle_file_bytes() {
  std::ifstream stat("/sys/fs/cgroup/memory.stat");
  int64_t bytes = 0;
  for (std::string word; stat >> word;) {
    if (word == "inactive_file" && stat >> bytes) return bytes;
  }
  return 0;
}

/// Made only for who looks, or as large as the prompt squared: in no forward's own way.
bool is_aside(const SiteInfo& site) {
  const auto has = [&](const char* dim) {
    return std::find(site.dims.begin(), site.dims.end(), dim) != site.dims.end();
  };
  const Site s = site.point.site;
  return has("k") || s == Site::State || s == Site::ABar || s == Site::BBar || s == Site::Result ||
         s == Site::StateStart || s == Site::A;
}

}  // namespace

void add_memory_flags(CLI::App& command, MemoryFlags& flags) {
  command.add_option("--max-gpu-memory", flags.gpu,
                     "GiB of a GPU that may be taken, weights included (default: no cap)");
  command.add_option("--max-host-memory", flags.host,
                     "the same of the host's memory (default: no cap)");
}

int64_t gib_bytes(const char* flag, double gib) {
  HEADLENS_CHECK(UsageError, std::isfinite(gib) && gib >= 0,
                 "[flags] {}, expected at least 0 GiB, got {}", flag, gib);
  return static_cast<int64_t>(gib * 1024 * 1024 * 1024);
}

int64_t memory_cap(const MemoryFlags& flags, const std::vector<at::Device>& devices) {
  const int64_t gpu = gib_bytes("--max-gpu-memory", flags.gpu);
  const int64_t host = gib_bytes("--max-host-memory", flags.host);
  return on_host(devices) ? host : gpu;
}

int64_t free_host_memory() {
  int64_t bytes = INT64_MAX;
  std::ifstream info("/proc/meminfo");
  for (std::string word; info >> word;) {
    int64_t kilobytes = 0;
    if (word == "MemAvailable:" && info >> kilobytes) bytes = kilobytes * 1024;
  }
  const auto limit = group_number("/sys/fs/cgroup/memory.max");
  const auto used = group_number("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return bytes;
  return std::min(bytes, std::max<int64_t>(0, *limit - *used + idle_file_bytes()));
}

int64_t free_memory(const std::vector<at::Device>& devices) {
  if (on_host(devices)) return free_host_memory();
  int64_t least = INT64_MAX;
  for (const at::Device& device : devices) {
    if (device.is_cpu()) continue;
    const auto [free, total] = at::accelerator::getMemoryInfo(device.index());
    least = std::min(least, static_cast<int64_t>(free));
  }
  return least;
}

int64_t token_bytes(const ModelConfig& config) {
  std::map<int64_t, int64_t> numbers;  // by layer, -1 around them
  for (const SiteInfo& site : sites_of(config)) {
    if (is_aside(site) || site.point.site == Site::Logits) continue;
    numbers[site.point.layer] += site_numel(config, site.point, 1, 1);
  }
  int64_t most = 0;
  for (const auto& [layer, count] : numbers) {
    if (layer >= 0) most = std::max(most, count);
  }
  return (most + 3 * config.d_model) * static_cast<int64_t>(sizeof(float));
}

std::string gib_text(int64_t bytes) {
  return fmt::format("{:.4g} GiB", static_cast<double>(bytes) / (1024.0 * 1024 * 1024));
}

int64_t figure_bytes(const ModelConfig& config, int64_t tokens) {
  // A block of HeadMap::reduce: rows of one head at least, of all heads up to so many entries.
  constexpr int64_t kParts = 5;  // of a row: itself, its shares of the whole, what sums are made of
  constexpr int64_t kRows = 64, kEntries = int64_t{1} << 24;
  int64_t heads = 0;
  for (const LayerSpec& layer : config.layers) {
    for (const HeadBank& bank : head_banks(layer)) heads = std::max(heads, bank.count);
  }
  const int64_t of_a_head = kRows * tokens;
  const int64_t entries = std::min(heads * of_a_head, std::max(kEntries, of_a_head));
  return kParts * entries * static_cast<int64_t>(sizeof(float));
}

namespace {

/// Of a batch, without the weights.
int64_t batch_bytes(const LanguageModel& model, int64_t tokens, const MemoryNeeds& needs) {
  const bool figures = needs.map_figures && on_host(model.devices());
  return tokens * token_bytes(model.config()) +
         (figures ? figure_bytes(model.config(), tokens) : 0);
}

}  // namespace

void memory_notice(const CommonFlags& flags, const LanguageModel& model, int64_t tokens,
                   const MemoryNeeds& needs) {
  if (flags.quiet) return;
  log_info(fmt::format("[memory] predicted: weights {}, at most {} for {} tokens a batch; {} free",
                       gib_text(model.weight_bytes()), gib_text(batch_bytes(model, tokens, needs)),
                       tokens, gib_text(free_memory(model.devices()))));
}

int64_t room_for_tokens(const MemoryFlags& memory, const LanguageModel& model, int64_t batch_tokens,
                        const MemoryNeeds& needs) {
  const int64_t cap = memory_cap(memory, model.devices());
  if (cap == 0) return batch_tokens;
  const int64_t weights = model.weight_bytes() + needs.beside_bytes, few = needs.least_tokens;
  const int64_t least = weights + batch_bytes(model, few, needs);
  HEADLENS_CHECK(UsageError, least <= cap,
                 "[memory] cap on memory, expected at least the {} of the weights and {}, got {}",
                 gib_text(least), few == 1 ? "one token" : fmt::format("a text of {} tokens", few),
                 gib_text(cap));
  int64_t tokens = std::min(batch_tokens, (cap - weights) / token_bytes(model.config()));
  while (tokens > few && weights + batch_bytes(model, tokens, needs) > cap) {
    tokens = std::max(few, tokens - tokens / 16 - 1);
  }
  return tokens;
}

int64_t tokens_within(const CommonFlags& flags, const MemoryFlags& memory,
                      const LanguageModel& model, int64_t batch_tokens, const MemoryNeeds& needs) {
  const int64_t tokens = room_for_tokens(memory, model, batch_tokens, needs);
  memory_notice(flags, model, std::max(tokens, needs.least_tokens), needs);
  return tokens;
}

}  // namespace headlens::cli
