// headlens/hooks: recorded tensors by name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headlens/core/dtype.h"

namespace headlens {

/// Tensors under the names they were asked by, in the order they were recorded.
class ActivationCache {
 public:
  using Entry = std::pair<std::string, Tensor>;  ///< name, tensor

  /// Adds a tensor, or puts it in place of the one of that name.
  void set(std::string name, Tensor value);
  bool has(std::string_view name) const;  ///< whether it was recorded
  /// HookError naming the recorded names if there is no such one.
  const Tensor& operator[](std::string_view name) const;

  std::vector<std::string> names() const;          ///< in the order they were recorded
  size_t size() const { return entries_.size(); }  ///< tensors
  bool empty() const { return entries_.empty(); }  ///< holds none
  /// Bytes of all tensors; storage that two of them share counts twice.
  int64_t bytes() const;
  void clear();  ///< drops all tensors

  std::vector<Entry>::const_iterator begin() const {
    return entries_.begin();
  }                                                                          ///< the first recorded
  std::vector<Entry>::const_iterator end() const { return entries_.end(); }  ///< past the last

  /// Writes all tensors to a safetensors file. CheckpointError if writing fails.
  void save(const std::filesystem::path& path,
            const std::map<std::string, std::string>& metadata = {}) const;

 private:
  std::vector<Entry> entries_;
  std::map<std::string, size_t, std::less<>> index_;  // into entries_
};

}  // namespace headlens
