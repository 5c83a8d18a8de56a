// headlens/core: log lines on stderr.
#pragma once

#include <string_view>

namespace headlens {

/// How loud a line is; Off prints none.
enum class LogLevel {
  Debug,  ///< all lines
  Info,   ///< without those of log_debug
  Warn,   ///< warnings and errors
  Error,  ///< errors alone
  Off     ///< nothing
};

/// Sets the lowest level that is printed, for the whole process. Starts at `LogLevel::Info`.
void set_log_level(LogLevel level);

// Each prints one line `headlens: <level>: <message>` to stderr; callable from any thread.

/// What helps to look into a run.
void log_debug(std::string_view message);
/// What a user may want to know.
void log_info(std::string_view message);
/// What a user should know: the result may be another than expected.
void log_warn(std::string_view message);
/// What went wrong.
void log_error(std::string_view message);

}  // namespace headlens
