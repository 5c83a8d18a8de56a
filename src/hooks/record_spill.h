// headlens/hooks: recordings beyond a budget of memory: on the device, on the host, in a file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "headlens/core/dtype.h"
#include "headlens/hooks/recorder.h"

namespace headlens {

/// Puts each recorded tensor into the first place that has room for it.
class RecordSpill {
 public:
  explicit RecordSpill(RecordBudget budget);
  ~RecordSpill();

  /// The same values where there was room; what was recorded under this name before gives its up.
  /// A tensor in the file is a view of the file. Error if the file cannot be written.
  Tensor place(const std::string& name, const Tensor& value);

 private:
  enum class Tier { Device, Host, File };
  struct Held {
    Tier tier;
    int64_t bytes;
  };
  class File;

  Tier tier_for(bool on_device, int64_t bytes) const;

  RecordBudget budget_;
  int64_t device_ = 0, host_ = 0;  // bytes held
  std::unordered_map<std::string, Held> held_;
  std::shared_ptr<File> file_;
};

}  // namespace headlens
