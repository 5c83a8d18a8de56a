// headlens/hooks: recorded tensors by name.
#include "headlens/hooks/activation_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/check.h"
#include "headlens/core/safetensors.h"

namespace headlens {
namespace {

constexpr size_t kNamesShown = 12;

std::string some_names(const std::vector<std::string>& names) {
  if (names.empty()) return "nothing";
  const size_t shown = std::min(names.size(), kNamesShown);
  const auto first = names.begin();
  const std::string list =
      fmt::format("{}", fmt::join(first, first + static_cast<ptrdiff_t>(shown), ", "));
  return shown < names.size() ? fmt::format("{} and {} more", list, names.size() - shown) : list;
}

}  // namespace

void ActivationCache::set(std::string name, Tensor value) {
  const auto [place, added] = index_.try_emplace(std::move(name), entries_.size());
  if (added) {
    entries_.emplace_back(place->first, std::move(value));
  } else {
    entries_[place->second].second = std::move(value);
  }
}

bool ActivationCache::has(std::string_view name) const {
  return index_.contains(name);
}

const Tensor& ActivationCache::operator[](std::string_view name) const {
  const auto found = index_.find(name);
  HEADLENS_CHECK(HookError, found != index_.end(), "[cache] name, expected one of {}, got '{}'",
                 some_names(names()), name);
  return entries_[found->second].second;
}

std::vector<std::string> ActivationCache::names() const {
  std::vector<std::string> all;
  for (const Entry& entry : entries_) all.push_back(entry.first);
  return all;
}

int64_t ActivationCache::bytes() const {
  int64_t sum = 0;
  for (const Entry& entry : entries_) {
    sum += entry.second.numel() * static_cast<int64_t>(entry.second.element_size());
  }
  return sum;
}

void ActivationCache::clear() {
  entries_.clear();
  index_.clear();
}

void ActivationCache::save(const std::filesystem::path& path,
                           const std::map<std::string, std::string>& metadata) const {
  std::vector<Entry> plain;
  for (const Entry& entry : entries_) plain.emplace_back(entry.first, entry.second.detach());
  save_safetensors(path, plain, metadata);
}

}  // namespace headlens
