// headlens/tests: what an error leaves to go on with.
#include "cli/interrupt.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "cli/command_tools.h"

namespace headlens::cli {
namespace {

namespace fs = std::filesystem;

class Interrupt : public ::testing::Test {
 protected:
  void fail_with_a_journal(bool there) {
    if (there) std::ofstream(journal_) << "item";
    try {
      const InterruptNote note(journal_, journal_.string() + ".lock");
      throw std::runtime_error("the GPU is gone");
    } catch (const std::runtime_error&) {
    }
  }
  const testing::TempDir folder_;
  const fs::path journal_ = folder_.path() / "find.journal";
};

TEST_F(Interrupt, AfterAnErrorTheJournalIsKnownIfItIsThere) {
  fail_with_a_journal(false);
  EXPECT_EQ(kept_after_failure(), fs::path());
  fail_with_a_journal(true);
  EXPECT_EQ(kept_after_failure(), journal_);
}

TEST_F(Interrupt, WhileTheRunIsAliveItIsKnownToo) {
  std::ofstream(journal_) << "item";
  const InterruptNote note(journal_, journal_.string() + ".lock");
  EXPECT_EQ(kept_after_failure(), journal_);
}

TEST_F(Interrupt, ARunThatEndedWellLeavesNothing) {
  fail_with_a_journal(true);
  { const InterruptNote note(journal_, journal_.string() + ".lock"); }
  EXPECT_EQ(kept_after_failure(), fs::path());
}

}  // namespace
}  // namespace headlens::cli
