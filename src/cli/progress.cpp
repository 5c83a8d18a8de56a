// headlens/cli: progress with a rate and the time left, on stderr.
#include "cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace headlens::cli {
namespace {

constexpr double kInterval = 0.1;  // seconds between updates

/// What a stage counts, where that is nothing but its work items.
std::string unit_of(const std::string& stage) {
  static const std::map<std::string, std::string> kUnits = {{"loading", "bytes"},
                                                            {"eval", "examples"},
                                                            {"generate", "prompts"},
                                                            {"train", "steps"},
                                                            {"claims", "claims"}};
  const auto found = kUnits.find(stage);
  return found == kUnits.end() ? "items" : found->second;
}

/// "118 items/s", "2.4 items/s", "14 items/min", "1.2 GB/s".
std::string rate_text(double rate, const std::string& unit) {
  if (unit == "bytes") return fmt::format("{:.2f} GB/s", rate / 1e9);
  if (rate >= 10) return fmt::format("{:.0f} {}/s", rate, unit);
  return rate >= 1 ? fmt::format("{:.1f} {}/s", rate, unit)
                   : fmt::format("{:.1f} {}/min", 60 * rate, unit);
}

}  // namespace

std::string duration_text(double seconds) {
  const auto s = std::llround(seconds);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s % 3600 / 60);
}

std::string progress_text(const std::string& stage, int64_t done, int64_t fresh, int64_t total,
                          double seconds) {
  std::string line = fmt::format("{}: {} %", stage, total > 0 ? 100 * done / total : 100);
  const bool last = done >= total;
  if (fresh > 0 && seconds > 1) {
    const double rate = static_cast<double>(fresh) / seconds;
    line += ", " + rate_text(rate, unit_of(stage));
    if (!last) {
      line += fmt::format(", {} left", duration_text(static_cast<double>(total - done) / rate));
    }
  }
  return last ? line + ", " + duration_text(seconds) : line;
}

Progress::Progress(bool quiet) : silent_(quiet || isatty(STDERR_FILENO) != 1) {}

Progress::~Progress() {
  finish();
}

void Progress::update(const std::string& stage, int64_t done, int64_t total) {
  const Clock::time_point now = Clock::now();
  const bool is_new = stage != stage_;
  if (is_new) {
    finish();
    stage_ = stage;
    first_done_ = done;
    started_ = now;
  }
  const auto since = [now](Clock::time_point t) {
    return std::chrono::duration<double>(now - t).count();
  };
  if (silent_) {
    // Scripts that time stages ask for their ends.
    if (done < total || std::getenv("HEADLENS_PROGRESS") == nullptr) return;
    std::fputs(fmt::format("{}: 100 %, {}\n", stage, duration_text(since(started_))).c_str(),
               stderr);
    return;
  }
  if (!is_new && done < total && since(printed_) < kInterval) return;
  printed_ = now;
  const std::string line = progress_text(stage, done, done - first_done_, total, since(started_));
  // Not fmt::print, which throws when stderr is closed.
  std::fputs(("\r\033[K" + line).c_str(), stderr);
  std::fflush(stderr);
  line_open_ = true;
}

void Progress::finish() {
  if (line_open_) std::fputs("\n", stderr);
  line_open_ = false;
}

}  // namespace headlens::cli
