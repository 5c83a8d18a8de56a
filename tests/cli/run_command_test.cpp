// headlens/tests: errors that no catch can take.
#include <gtest/gtest.h>

#include <exception>

#include "cli/commands.h"
#include "headlens/core/error.h"

namespace headlens::cli {
namespace {

/// A destructor whose work fails, as with a GPU that is gone.
struct Falls {
  ~Falls() noexcept(false) { throw Error("[x] y, expected z, got w; do so"); }  // NOLINT
};

void fall_twice() {
  const Falls second;
  throw Error("[first] y, expected z, got w");
}

TEST(RunCommandDeathTest, AnErrorWhileAnotherIsUnderWayIsOneLine) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto fall = [] {
    std::set_terminate(end_on_terminate);
    try {
      fall_twice();
    } catch (const Error&) {
    }
  };
  EXPECT_EXIT(fall(), ::testing::ExitedWithCode(1),
              "^headlens: error: \\[x\\] y, expected z, got w; do so\n$");
}

TEST(RunCommandDeathTest, EndsWithoutAnErrorAreOneLineToo) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        std::set_terminate(end_on_terminate);
        std::terminate();
      },
      ::testing::ExitedWithCode(1), "^headlens: error: \\[internal\\] .*\n$");
}

}  // namespace
}  // namespace headlens::cli
