// headlens/tests: log lines and their level.
#include "headlens/core/log.h"

#include <gtest/gtest.h>

namespace headlens {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

TEST(Log, PrintsTheLevelAndTheMessageToStderr) {
  CaptureStderr();
  log_warn("braces {} stay");
  log_error("bad");
  EXPECT_EQ(GetCapturedStderr(),
            "headlens: warning: braces {} stay\n"
            "headlens: error: bad\n");
}

TEST(Log, HidesWhatIsBelowTheLevel) {
  CaptureStderr();
  log_debug("hidden by default");
  set_log_level(LogLevel::Warn);
  log_info("hidden now");
  set_log_level(LogLevel::Debug);
  log_debug("shown");
  set_log_level(LogLevel::Off);
  log_error("hidden by off");
  set_log_level(LogLevel::Info);
  EXPECT_EQ(GetCapturedStderr(), "headlens: debug: shown\n");
}

}  // namespace
}  // namespace headlens
