// headlens/core: log lines on stderr.
#pragma once

#include <string_view>

namespace headlens {

enum class LogLevel { Debug, Info, Warn, Error, Off };

/// Sets the lowest level that is printed, for the whole process. Starts at `LogLevel::Info`.
void set_log_level(LogLevel level);

/// Each prints one line `headlens: <level>: <message>` to stderr; callable from any thread.
void log_debug(std::string_view message);
void log_info(std::string_view message);
void log_warn(std::string_view message);
void log_error(std::string_view message);

}  // namespace headlens
