// headlens/tests: calls of the command in processes of their own, to be killed or to work together.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "cli/command_tools.h"

extern char** environ;  // NOLINT: POSIX says so

namespace headlens::testing {

using Words = std::vector<std::string>;
namespace fs = std::filesystem;

/// A call of the command in a process of its own, in the directory `where`.
class Process {
 public:
  Process(const fs::path& where, const Words& words, const Words& variables = {}) {
    errors_ = where / ("errors-" + std::to_string(counter_++));
    Words all = {HEADLENS_COMMAND};
    all.insert(all.end(), words.begin(), words.end());
    // Of what this test itself was started with, a launcher's variables must not get through.
    Words inherited = variables;
    inherited.push_back("OMP_NUM_THREADS=1");
    for (char** v = environ; *v != nullptr; ++v) {
      if (!std::regex_search(*v, std::regex("^(RANK|WORLD_|LOCAL_|MASTER_|OMP|PMI|SLURM|TORCH)"))) {
        inherited.emplace_back(*v);
      }
    }
    std::vector<char*> argv, envp;
    for (std::string& word : all) argv.push_back(word.data());
    for (std::string& variable : inherited) envp.push_back(variable.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("cannot fork");  // kill(-1) would be everybody's end
    if (pid_ > 0) return;
    const bool ready = ::chdir(where.c_str()) == 0 &&
                       std::freopen("/dev/null", "w", stdout) != nullptr &&
                       std::freopen(errors_.c_str(), "w", stderr) != nullptr;
    if (ready) ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ~Process() {
    if (!running()) return;
    signal(SIGKILL);
    ::waitpid(pid_, &status_, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  bool running() {
    if (!ended_) ended_ = ::waitpid(pid_, &status_, WNOHANG) == pid_;
    return !ended_;
  }
  void signal(int number) const { ::kill(pid_, number); }
  /// Its exit status; -1 if it was killed, -2 if it has not ended after two minutes.
  int wait() {
    for (int tries = 0; running(); ++tries) {
      if (tries == 24'000) return -2;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -1;
  }
  std::string errors() const { return read_file(errors_); }

 private:
  static inline int counter_ = 0;
  fs::path errors_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

inline uintmax_t size_of(const fs::path& path) {
  std::error_code ignored;
  const uintmax_t size = fs::file_size(path, ignored);
  return ignored ? 0 : size;
}

/// Waits until the journal has grown to `size` bytes; false if the process ended before.
inline bool grows_to(Process& process, const fs::path& journal, uintmax_t size) {
  while (size_of(journal) < size) {
    if (!process.running()) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// A port that nobody listens at just now.
inline uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ::close(fd);
  return ntohs(address.sin_port);
}

}  // namespace headlens::testing
