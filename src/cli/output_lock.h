// headlens/cli: one run at a time on one output.
#pragma once

#include <filesystem>

namespace headlens::cli {

/// Holds an output while this process works on it: an flock on a file that names the process, and
/// that is gone with this object. The lock of a process that was killed is nobody's.
class OutputLock {
 public:
  /// Error naming the process if another one holds `path`.
  explicit OutputLock(std::filesystem::path path);
  ~OutputLock();
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;

  /// Error if a process holds `path`; takes nothing.
  static void check_free(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

}  // namespace headlens::cli
