// headlens/cli: progress with the time left, on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace headlens::cli {

/// One line that is rewritten on a terminal, and printed rarely where stderr is a file. Silent when
/// `quiet`.
class Progress {
 public:
  explicit Progress(bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// A new stage name starts a new line and a new clock.
  void update(const std::string& stage, int64_t done, int64_t total);
  /// Ends the line.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  bool quiet_;
  bool terminal_;
  bool line_open_ = false;
  std::string stage_;
  Clock::time_point started_;
  Clock::time_point printed_;
};

}  // namespace headlens::cli
