// headlens/tests: error types and the macros that throw them.
#include "headlens/core/error.h"

#include <c10/util/ArrayRef.h>

#include "core/check.h"
#include "error_message.h"

namespace headlens {
namespace {

using testing::error_message;

TEST(Error, EveryTypeIsAnErrorAndARuntimeError) {
  EXPECT_THROW(throw ConfigError("x"), Error);
  EXPECT_THROW(throw CheckpointError("x"), Error);
  EXPECT_THROW(throw ShapeError("x"), Error);
  EXPECT_THROW(throw DeviceError("x"), Error);
  EXPECT_THROW(throw HookError("x"), Error);
  EXPECT_THROW(throw TaskError("x"), Error);
  EXPECT_THROW(throw UsageError("x"), Error);
  EXPECT_THROW(throw Error("x"), std::runtime_error);
}

TEST(Check, ThrowsTheNamedTypeWithTheFormattedMessage) {
  const int got = 3;
  EXPECT_EQ(error_message<ShapeError>([&] {
              HEADLENS_CHECK(ShapeError, got == 2, "[f] rank, expected {}, got {}", 2, got);
            }),
            "[f] rank, expected 2, got 3");
  EXPECT_EQ(error_message<TaskError>([] { HEADLENS_FAIL(TaskError, "[g] nothing to do"); }),
            "[g] nothing to do");
}

TEST(Check, DoesNotEvaluateTheMessageWhenTheConditionHolds) {
  int evaluated = 0;
  const auto count = [&] { return ++evaluated; };
  HEADLENS_CHECK(ConfigError, true, "[f] {}", count());
  EXPECT_EQ(evaluated, 0);
}

TEST(Check, IsOneStatementAfterIf) {
  bool other_branch = false;
  if (false)
    HEADLENS_CHECK(ConfigError, false, "[f] never");
  else
    other_branch = true;
  EXPECT_TRUE(other_branch);
}

TEST(ShapeString, ListsTheSizes) {
  EXPECT_EQ(shape_string({2, 3}), "[2, 3]");
  EXPECT_EQ(shape_string({7}), "[7]");
  EXPECT_EQ(shape_string({}), "[]");
}

}  // namespace
}  // namespace headlens
