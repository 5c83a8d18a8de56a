// headlens/analysis: work items done once each, by this process or by several.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headlens/analysis/journal.h"
#include "headlens/analysis/launch.h"

namespace headlens {

/// Does work items and gathers their results. With several processes every one makes the same calls
/// in the same order; each item is then computed by whichever process takes it, and all of them get
/// the same bytes. So whatever decides what is done next must come out of a pool's results.
class WorkPool {
 public:
  using Compute = std::function<std::string(size_t item)>;            ///< an item's result as bytes
  using Progress = std::function<void(int64_t done, int64_t total)>;  ///< in items

  virtual ~WorkPool() = default;

  /// Once, before the first `run`: what results depend on, and in the process that leads, where
  /// they are kept (nothing: nowhere). Error if the processes were started with different
  /// identities.
  virtual void start(const RunIdentity& identity, std::optional<Journal> journal) = 0;
  /// `compute(i)` of every item whose result is not in the journal. `keys` say what each item is,
  /// no two alike; the same key must mean the same result. Returns the results, item by item.
  virtual std::vector<std::string> run(const std::vector<std::string>& keys, const Compute& compute,
                                       const Progress& progress = {}) = 0;
  /// Does this process write what the run is for? One does.
  virtual bool leads() const = 0;
  /// Once, when the output is written: removes the journal, lets the other processes go.
  virtual void finish() = 0;
};

/// This process alone.
std::unique_ptr<WorkPool> make_local_pool();

/// How long processes wait for one another.
struct StorePoolOptions {
  /// A process that says nothing for so long is lost: its items go to others.
  std::chrono::milliseconds lost_after{30'000};
  /// How long a process looks for the store.
  std::chrono::milliseconds connect_within{120'000};
};

/// The processes of a launcher, which share a c10d::TCPStore: a counter in it hands out items, and
/// results go through it to every process, journalled by process 0. Only process 0 cannot be lost:
/// the others then end with an Error, and its journal is left. Throws Error if there is no store.
std::unique_ptr<WorkPool> make_store_pool(const Launch& launch,
                                          const StorePoolOptions& options = {});

}  // namespace headlens
