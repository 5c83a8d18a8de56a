// headlens/tests: what the command says to do where an error's words do not.
#include "cli/remedies.h"

#include <gtest/gtest.h>

namespace headlens::cli {
namespace {

TEST(Remedies, AreAddedOnceAndOnlyWhereNoneIsGiven) {
  EXPECT_EQ(with_remedy("[torch] x, expected y, got z"),
            "[torch] x, expected y, got z; try --device cpu, and report this line with the command "
            "if that works");
  EXPECT_EQ(with_remedy("[torch] x, expected y, got z; do so"),
            "[torch] x, expected y, got z; do so");
  EXPECT_EQ(with_remedy("[flags] x, expected y, got z"), "[flags] x, expected y, got z");
}

TEST(Remedies, ALostGpuIsNamedWithWhatIsKept) {
  EXPECT_EQ(lost_device_line("cuda:1: CUDA error: unspecified launch failure", "out/find.journal"),
            "[device] cuda:1, expected to work until the end, got CUDA error: unspecified launch "
            "failure; what was finished is kept in out/find.journal: the same command with "
            "--resume goes on once the GPU is back");
  EXPECT_EQ(lost_device_line("cuda:0: CUDA error: unknown error", {}),
            "[device] cuda:0, expected to work until the end, got CUDA error: unknown error; see "
            "that nvidia-smi shows it, then run the command again, or with --device cpu");
}

}  // namespace
}  // namespace headlens::cli
