// headlens/cli: what happens when the user stops the command.
#pragma once

#include <filesystem>
#include <string>

namespace headlens::cli {

/// From here on SIGINT and SIGTERM end the process at once, whatever it is doing, with one line
/// that says what is kept, and status 128 + the signal's number. Records of a journal are on the
/// disk one by one and files appear whole, so there is nothing to wait for. Call it before any
/// other thread is started: they must not take the signals. A signal that the parent had switched
/// off (nohup) stays so.
void end_on_interrupt();

/// What an interrupt says is kept, and what it takes away, while this object lives.
class InterruptNote {
 public:
  /// `kept`: the journal to go on with; `lock`: a file that only this run needs.
  InterruptNote(std::filesystem::path kept, std::filesystem::path lock);
  ~InterruptNote();
  InterruptNote(const InterruptNote&) = delete;
  InterruptNote& operator=(const InterruptNote&) = delete;

 private:
  int exceptions_;  // under way when it was made
};

/// What a run that an error has ended, or is ending, leaves to go on with: the journal of the last
/// note, if it is there. Empty: nothing.
std::filesystem::path kept_after_failure();

}  // namespace headlens::cli
