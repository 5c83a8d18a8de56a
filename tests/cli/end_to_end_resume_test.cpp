// headlens/tests: `reproduce`, `prune` and `compare` killed at any moment, and shared by processes.
#include <gtest/gtest.h>

#include <map>
#include <random>

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

/// A command, and the files that it writes.
struct Job {
  const char* name;
  Words words;
  std::vector<const char*> files;
};

Job job_of(const std::string& name, const std::string& examples = "32") {
  const std::string letters = "mcq:options=4,n=" + examples;
  if (name == "prune") {
    return {"prune",
            {"zoo:transformer", "--task", letters, "--against", "world-facts:n=32",
             "--leave-one-out", "--batch-tokens", "1024"},
            {"prune.json", "prune.csv"}};
  }
  if (name == "compare") {
    return {"compare",
            {"zoo:mamba2", "zoo:transformer", "--task", letters, "--batch-tokens", "1024"},
            {"compare.json", "compare.csv", "compare.html"}};
  }
  return {
      "reproduce",
      {"C1", "C2", "C5", "C7", "--models", "zoo:mamba2,zoo:hybrid", "--retrieval", letters,
       "--knowledge", "world-facts:n=32", "--dictionaries", "kv:pairs={},n=16", "--pairs", "4,8"},
      {"study.json", "study.html"}};
}

Words words_of(const Job& job, bool resume = false) {
  Words all = {job.name};
  all.insert(all.end(), job.words.begin(), job.words.end());
  all.insert(all.end(), {"--device", "cpu", "--out", "out", "--quiet", "--lost-after", "5"});
  if (resume) all.push_back("--resume");
  return all;
}

/// A file without what the clock and the memory say.
std::string timeless(const fs::path& file) {
  std::string text = read_file(file);
  EXPECT_FALSE(text.empty()) << file;
  const auto drop = [&text](const char* what, const char* with) {
    text = std::regex_replace(text, std::regex(what), with);
  };
  drop("\"(started|seconds|peak_bytes)\": *\"?[0-9TZ:.e-]+\"?", "\"$1\"");
  drop("[0-9.]+ s(, [0-9.]+ GiB)?\\)", "s)");
  drop("20[0-9T:-]+Z, [0-9]+ s", "when");
  drop("20[0-9][0-9]-[0-9T:-]+Z", "when");
  drop("[0-9.]+ s\\b", "s");
  // Killed before its journal began, a run is not gone on with: its command is then the second's.
  drop(" --resume", "");
  return text;
}

using Files = std::map<std::string, std::string>;

class ResumedCommand : public ::testing::TestWithParam<const char*> {
 protected:
  Files files_in(const fs::path& where) const {
    Files files;
    for (const char* file : job_.files) files[file] = timeless(where / "out" / file);
    return files;
  }
  /// What the command leaves when nobody kills it.
  Files undisturbed() const {
    const TempDir dir;
    Process process(dir.path(), words_of(job_));
    EXPECT_EQ(process.wait(), 0) << process.errors();
    return files_in(dir.path());
  }
  const Job job_ = job_of(GetParam());
  const TempDir dir_;
  const fs::path journal_ = dir_.path() / "out" / (std::string(GetParam()) + ".journal");
};

TEST_P(ResumedCommand, KilledAtAnyMomentEndsTheSame) {
  std::mt19937 random(std::random_device{}());
  int kills = 0;
  for (bool resume = false;; resume = true) {
    Process process(dir_.path(), words_of(job_, resume));
    const uintmax_t more = std::uniform_int_distribution<uintmax_t>(1, 3'000)(random);
    if (!grows_to(process, journal_, size_of(journal_) + more)) {
      ASSERT_EQ(process.wait(), 0) << process.errors();
      break;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 100'000));
    process.signal(SIGKILL);
    kills += process.wait() == -1;
  }
  EXPECT_GE(kills, 2);
  EXPECT_EQ(files_in(dir_.path()), undisturbed());
  EXPECT_FALSE(fs::exists(journal_));
}

TEST_P(ResumedCommand, GoesOnWithItsOwnTaskOnly) {
  {
    Process process(dir_.path(), words_of(job_));
    ASSERT_TRUE(grows_to(process, journal_, 1));
    process.signal(SIGKILL);
  }
  const std::string journal = "out/" + std::string(job_.name) + ".journal";
  Process unasked(dir_.path(), words_of(job_));
  EXPECT_EQ(unasked.wait(), 2);
  EXPECT_EQ(unasked.errors(), "headlens: error: [resume] " + journal +
                                  ", expected --resume to go on with an unfinished run (or the "
                                  "file removed), got neither\n");
  Process other(dir_.path(), words_of(job_of(job_.name, "31"), true));
  EXPECT_EQ(other.wait(), 2);
  EXPECT_NE(other.errors().find("mcq:options=4,n=31"), std::string::npos) << other.errors();
}

TEST_P(ResumedCommand, TwoProcessesShareIt) {
  const std::string port = std::to_string(free_port());
  const auto process_of = [&](int rank) {
    return std::make_unique<Process>(
        dir_.path(), words_of(job_),
        Words{"RANK=" + std::to_string(rank), "WORLD_SIZE=2", "LOCAL_RANK=" + std::to_string(rank),
              "MASTER_ADDR=127.0.0.1", "MASTER_PORT=" + port});
  };
  const auto first = process_of(0), second = process_of(1);
  EXPECT_EQ(first->wait(), 0) << first->errors();
  EXPECT_EQ(second->wait(), 0) << second->errors();
  EXPECT_EQ(files_in(dir_.path()), undisturbed());
  EXPECT_FALSE(fs::exists(journal_));
}

INSTANTIATE_TEST_SUITE_P(Commands, ResumedCommand,
                         ::testing::Values("reproduce", "prune", "compare"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace headlens
