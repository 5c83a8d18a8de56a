// headlens/cli: progress with a rate and the time left, on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace headlens::cli {

/// "8 s", "3 min 04 s", "2 h 05 min".
std::string duration_text(double seconds);

/// One stage's line: "find: 42 %, 118 items/s, 12 s left", or, when all is done, "find: 100 %, 118
/// items/s, 20 s". `fresh`: how many of `done` were done in these `seconds` (a resumed run begins
/// with some). Rate and time left are shown from the first second on.
std::string progress_text(const std::string& stage, int64_t done, int64_t fresh, int64_t total,
                          double seconds);

/// One line that is rewritten on a terminal. Silent when `quiet`, and where stderr is no terminal:
/// logs and pipes get errors and warnings only.
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
  bool silent_;
  bool line_open_ = false;
  std::string stage_;
  int64_t first_done_ = 0;
  Clock::time_point started_;
  Clock::time_point printed_;
};

}  // namespace headlens::cli
