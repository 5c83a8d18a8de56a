// headlens/cli: what happens when the user stops the command.
#include "cli/interrupt.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

namespace headlens::cli {
namespace {

/// Of the process: a signal has no other way to reach what runs.
struct Noted {
  std::mutex mutex;
  std::filesystem::path kept, lock;
  std::filesystem::path left;  // of a run that an error ended
};

Noted& noted() {
  static auto* const instance = new Noted;  // outlives every thread
  return *instance;
}

bool is_ignored(int signal) {
  struct sigaction now = {};
  return ::sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

std::string last_words(int signal, const std::filesystem::path& kept) {
  const char* name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  const char* line_start = ::isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
  if (kept.empty()) return fmt::format("{}headlens: stopped by {}\n", line_start, name);
  return fmt::format(
      "{}headlens: stopped by {}; what was finished is kept in {}: the same command with --resume "
      "goes on\n",
      line_start, name, kept.string());
}

void wait_for(sigset_t signals) {
  int signal = 0;
  while (::sigwait(&signals, &signal) != 0) continue;
  Noted& state = noted();
  const std::lock_guard guard(state.mutex);  // nobody tidies up meanwhile
  std::error_code ignored;
  const bool there = !state.kept.empty() && std::filesystem::exists(state.kept, ignored);
  if (!state.lock.empty()) std::filesystem::remove(state.lock, ignored);
  const std::string line = last_words(signal, there ? state.kept : std::filesystem::path());
  (void)!::write(STDERR_FILENO, line.data(), line.size());
  ::_exit(128 + signal);
}

}  // namespace

void end_on_interrupt() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM}) {
    if (!is_ignored(signal)) sigaddset(&signals, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  noted();
  try {
    std::thread(wait_for, signals).detach();
  } catch (const std::system_error&) {  // no room for one: the signals end the process as ever
    ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  }
}

InterruptNote::InterruptNote(std::filesystem::path kept, std::filesystem::path lock)
    : exceptions_(std::uncaught_exceptions()) {
  Noted& state = noted();
  const std::lock_guard guard(state.mutex);
  state.kept = std::move(kept), state.lock = std::move(lock);
  state.left.clear();
}

InterruptNote::~InterruptNote() {
  Noted& state = noted();
  const std::lock_guard guard(state.mutex);
  if (std::uncaught_exceptions() > exceptions_) state.left = state.kept;
  state.kept.clear(), state.lock.clear();
}

std::filesystem::path kept_after_failure() {
  Noted& state = noted();
  const std::lock_guard guard(state.mutex);
  const std::filesystem::path kept = state.kept.empty() ? state.left : state.kept;
  std::error_code ignored;
  return std::filesystem::exists(kept, ignored) ? kept : std::filesystem::path();
}

}  // namespace headlens::cli
