// headlens/analysis: the store that the processes of a run share, and who of them is still there.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/launch.h"

namespace headlens {

/// A c10d::TCPStore, in words of this library: bytes by key, counters, lists. While it lives it
/// tells the others, every so often, that this process is there. Every operation throws Error, in
/// one line, if the store does not answer.
class ProcessStore {
 public:
  /// Process 0 hosts the store unless its launcher does.
  ProcessStore(const Launch& launch, std::chrono::milliseconds lost_after,
               std::chrono::milliseconds connect_within);
  ~ProcessStore();

  void set(const std::string& key, const std::string& value);
  bool has(const std::string& key);
  /// Of a key that is there.
  std::string get(const std::string& key);
  /// Adds to a counter, which begins at 0, and returns its new value.
  int64_t add(const std::string& key, int64_t amount);
  /// Adds a number to a list.
  void push(const std::string& list, uint32_t number);
  /// The list so far; it may hold a number twice.
  std::vector<uint32_t> list(const std::string& list);

  /// Did this process fail, or was it silent for `lost_after`? One that was heard of is given that
  /// time from the first question on.
  bool is_lost(int64_t rank);
  /// Has it said `leave`?
  bool has_left(int64_t rank);
  /// Tells the others that this process will answer no more, since its work is done.
  void leave();
  /// Error if process 0 is lost.
  void check_leader();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headlens
