// headlens/cli: progress with the time left, on stderr.
#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

namespace headlens::cli {
namespace {

constexpr double kTerminalInterval = 0.1;  // seconds between updates
constexpr double kFileInterval = 10;

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s % 3600 / 60);
}

}  // namespace

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  finish();
}

void Progress::update(const std::string& stage, int64_t done, int64_t total) {
  if (quiet_) return;
  const Clock::time_point now = Clock::now();
  const bool is_new = stage != stage_;
  if (is_new) {
    finish();
    stage_ = stage;
    started_ = printed_ = now;
  }
  const auto since = [now](Clock::time_point t) {
    return std::chrono::duration<double>(now - t).count();
  };
  const bool last = done >= total;
  const bool at_once = last || (is_new && terminal_);
  if (!at_once && since(printed_) < (terminal_ ? kTerminalInterval : kFileInterval)) return;
  printed_ = now;
  const double elapsed = since(started_);
  std::string line = fmt::format("{}: {} %", stage, total > 0 ? 100 * done / total : 100);
  if (last) {
    line += fmt::format(", {}", duration(elapsed));
  } else if (done > 0 && elapsed > 1) {
    line += fmt::format(", {} left", duration(elapsed / static_cast<double>(done) *
                                              static_cast<double>(total - done)));
  }
  // Not fmt::print, which throws when stderr is closed.
  std::fputs((terminal_ ? "\r\033[K" + line : line + "\n").c_str(), stderr);
  std::fflush(stderr);
  line_open_ = terminal_;
}

void Progress::finish() {
  if (line_open_) std::fputs("\n", stderr);
  line_open_ = false;
}

}  // namespace headlens::cli
