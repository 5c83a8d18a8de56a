// headlens/tests: commands that are killed, alone and among other processes, end with the same
// result.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <random>
#include <regex>
#include <thread>

#include "cli/command_tools.h"
#include "cli/process.h"

namespace headlens {
namespace {

using testing::free_port;
using testing::grows_to;
using testing::Process;
using testing::read_file;
using testing::size_of;
using testing::TempDir;
using testing::Words;
namespace fs = std::filesystem;

/// All of a scores.json but when it was begun and how long it took.
std::string scores_of(const fs::path& dir) {
  const std::string text = read_file(dir / "out" / "scores.json");
  EXPECT_FALSE(text.empty()) << dir;
  const std::string timeless =
      std::regex_replace(text, std::regex("\"(started|seconds)\": [^\n]*"), "\"$1\"");
  // Killed before its journal began, a run is not gone on with: its command is then the second's.
  return std::regex_replace(timeless, std::regex(" --resume\""), "\"");
}

Words find_words(bool resume = false, int examples = 48) {
  Words words = {"find",
                 "zoo:transformer",
                 "--task",
                 "mcq:options=4,n=" + std::to_string(examples),
                 "--batch-tokens",
                 "512",
                 "--device",
                 "cpu",
                 "--out",
                 "out",
                 "--quiet",
                 "--lost-after",
                 "1"};
  if (resume) words.push_back("--resume");
  return words;
}

/// What the same command leaves when nobody kills it.
class ScaleTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const TempDir dir;
    Process process(dir.path(), find_words());
    ASSERT_EQ(process.wait(), 0) << process.errors();
    EXPECT_FALSE(fs::exists(dir.path() / "out" / "find.journal"));
    scores_ = scores_of(dir.path());
    table_ = read_file(dir.path() / "out" / "scores.csv");
  }
  /// Process `rank` of two, by the variables of torchrun.
  std::unique_ptr<Process> process_of(int rank, const Words& words) const {
    return std::make_unique<Process>(
        dir_.path(), words,
        Words{"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "LOCAL_RANK=" + std::to_string(rank),
              "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + std::to_string(port_)});
  }
  /// Waits until both processes are at the store, each with two connections.
  void wait_for_both(Process& first) const {
    char port[6];
    std::snprintf(port, sizeof port, ":%04X", port_);
    // Local address, remote one, state 01: established. The store listens for both IP versions.
    const std::regex connection("[0-9A-F]+:[0-9A-F]{4} [0-9A-F]+" + std::string(port) + " 01 ");
    for (ptrdiff_t connections = 0; connections < 4;) {
      ASSERT_TRUE(first.running()) << first.errors();
      const std::string table = read_file("/proc/net/tcp") + read_file("/proc/net/tcp6");
      connections = std::distance(std::sregex_iterator(table.begin(), table.end(), connection),
                                  std::sregex_iterator());
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  void expect_same_result() const {
    EXPECT_EQ(scores_of(dir_.path()), scores_);
    EXPECT_EQ(read_file(dir_.path() / "out" / "scores.csv"), table_);
    EXPECT_FALSE(fs::exists(journal_));
  }
  static inline std::string scores_, table_;
  const TempDir dir_;
  const fs::path journal_ = dir_.path() / "out" / "find.journal";
  const uint16_t port_ = free_port();
};

TEST_F(ScaleTest, AFindKilledAtAnyMomentGoesOn) {
  std::mt19937 random(std::random_device{}());
  int kills = 0;
  for (bool resume = false;; resume = true) {
    Process process(dir_.path(), find_words(resume));
    const uintmax_t more = std::uniform_int_distribution<uintmax_t>(1, 12'000)(random);
    if (!grows_to(process, journal_, size_of(journal_) + more)) {
      ASSERT_EQ(process.wait(), 0) << process.errors();
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    process.signal(SIGKILL);
    kills += process.wait() == -1;
  }
  EXPECT_GE(kills, 3);
  expect_same_result();
}

TEST_F(ScaleTest, AJournalIsNeitherOverwrittenNorTakenForAnotherTask) {
  {
    Process process(dir_.path(), find_words());
    ASSERT_TRUE(grows_to(process, journal_, 2000));
    process.signal(SIGKILL);
  }
  const uintmax_t size = size_of(journal_);
  Process unasked(dir_.path(), find_words());
  EXPECT_EQ(unasked.wait(), 2);
  EXPECT_EQ(unasked.errors(),
            "headlens: error: [resume] out/find.journal, expected --resume to go on with an "
            "unfinished run (or the file removed), got neither\n");
  Words other = find_words(true);
  other[3] = "mcq:options=4,n=47";
  Process elsewhere(dir_.path(), other);
  EXPECT_EQ(elsewhere.wait(), 2);
  EXPECT_EQ(elsewhere.errors(),
            "headlens: error: [resume] out/find.journal is of another run: task, expected "
            "'mcq:options=4,n=48', got 'mcq:options=4,n=47'\n");
  EXPECT_EQ(size_of(journal_), size);
  Process asked(dir_.path(), find_words(true));
  EXPECT_EQ(asked.wait(), 0) << asked.errors();
  expect_same_result();
}

TEST_F(ScaleTest, TwoProcessesFindTheSame) {
  const auto second = process_of(1, find_words());
  const auto first = process_of(0, find_words());
  EXPECT_EQ(first->wait(), 0) << first->errors();
  EXPECT_EQ(second->wait(), 0) << second->errors();
  EXPECT_EQ(second->errors(), "");
  expect_same_result();
}

/// Two processes at work, of so many examples that one cannot have done them alone before the other
/// was there.
class TwoAtWork : public ScaleTest {
 protected:
  static constexpr int kMany = 192;
  void SetUp() override {
    second_ = process_of(1, find_words(false, kMany));  // which waits for the first
    first_ = process_of(0, find_words(false, kMany));
    wait_for_both(*first_);
    ASSERT_TRUE(grows_to(*first_, journal_, size_of(journal_) + 3000)) << first_->errors();
  }
  /// Against one process that nobody disturbs.
  void expect_result_of_one() const {
    const TempDir dir;
    Process alone(dir.path(), find_words(false, kMany));
    ASSERT_EQ(alone.wait(), 0) << alone.errors();
    EXPECT_EQ(scores_of(dir_.path()), scores_of(dir.path()));
    EXPECT_FALSE(fs::exists(journal_));
  }

  std::unique_ptr<Process> first_, second_;
};

TEST_F(TwoAtWork, TheSecondIsKilled) {
  second_->signal(SIGKILL);
  EXPECT_EQ(first_->wait(), 0) << first_->errors();
  expect_result_of_one();
}

// Its connections stay: nothing tells the first but its silence.
TEST_F(TwoAtWork, TheSecondStandsStill) {
  second_->signal(SIGSTOP);
  EXPECT_EQ(first_->wait(), 0) << first_->errors();
  EXPECT_TRUE(second_->running());
  expect_result_of_one();
}

TEST_F(TwoAtWork, TheFirstIsKilled) {
  first_->signal(SIGKILL);
  EXPECT_EQ(second_->wait(), 1);
  const std::string errors = second_->errors();
  EXPECT_TRUE(errors.starts_with("headlens: error: [processes] process 0, expected")) << errors;
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  Process alone(dir_.path(), find_words(true, kMany));
  EXPECT_EQ(alone.wait(), 0) << alone.errors();
  expect_result_of_one();
}

TEST_F(ScaleTest, AnAblateKilledGoesOnAndTwoDoTheSame) {
  const Words words = {"ablate",         "zoo:transformer",
                       "--task",         "mcq:options=4,n=256",
                       "--heads",        "3.0,2.2",
                       "--batch-tokens", "256",
                       "--device",       "cpu",
                       "--out",          "x.json",
                       "--quiet"};
  Words resumed = words;
  resumed.push_back("--resume");
  const fs::path out = dir_.path() / "x.json", journal = dir_.path() / "x.json.journal";
  Process whole(dir_.path(), words);
  ASSERT_EQ(whole.wait(), 0) << whole.errors();
  const std::string expected = read_file(out);
  EXPECT_FALSE(fs::exists(journal));
  fs::remove(out);
  {
    Process process(dir_.path(), words);
    ASSERT_TRUE(grows_to(process, journal, 2000));
    process.signal(SIGKILL);
  }
  EXPECT_FALSE(fs::exists(out));
  Process again(dir_.path(), resumed);
  EXPECT_EQ(again.wait(), 0) << again.errors();
  EXPECT_EQ(read_file(out), expected);
  fs::remove(out);
  const auto second = process_of(1, words), first = process_of(0, words);
  EXPECT_EQ(first->wait(), 0) << first->errors();
  EXPECT_EQ(second->wait(), 0) << second->errors();
  EXPECT_EQ(read_file(out), expected);
}

}  // namespace
}  // namespace headlens
