// headlens/core: log lines on stderr.
#include "headlens/core/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace headlens {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::Debug:
      return spdlog::level::debug;
    case LogLevel::Info:
      return spdlog::level::info;
    case LogLevel::Warn:
      return spdlog::level::warn;
    case LogLevel::Error:
      return spdlog::level::err;
    case LogLevel::Off:
      break;
  }
  return spdlog::level::off;
}

spdlog::logger& logger() {
  // Not registered with spdlog: a host program's own loggers and patterns stay its own. Never
  // destroyed, so that destructors of static objects may still log.
  static auto* const instance = [] {
    auto* made = new spdlog::logger("headlens", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("headlens: %l: %v");
    made->set_level(spdlog::level::info);
    return made;
  }();
  return *instance;
}

void log(LogLevel level, std::string_view message) {
  logger().log(to_spdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace

void set_log_level(LogLevel level) {
  logger().set_level(to_spdlog(level));
}

void log_debug(std::string_view message) {
  log(LogLevel::Debug, message);
}
void log_info(std::string_view message) {
  log(LogLevel::Info, message);
}
void log_warn(std::string_view message) {
  log(LogLevel::Warn, message);
}
void log_error(std::string_view message) {
  log(LogLevel::Error, message);
}

}  // namespace headlens
