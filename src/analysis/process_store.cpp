// headlens/analysis: the store that the processes of a run share, and who of them is still there.
#include "analysis/process_store.h"

#include <c10/util/Logging.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "core/check.h"

namespace headlens {
namespace {

using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;
using StorePtr = c10::intrusive_ptr<c10d::Store>;

Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

std::string rank_key(const char* what, int64_t rank) {
  return fmt::format("{}/{}", what, rank);
}

/// LibTorch's messages go on with a stack trace.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

/// c10d logs what it also throws, with its stack: one line of ours says it.
void quiet_c10d() {
  constexpr int kFatal = 3;
  FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, kFatal);
}

c10::intrusive_ptr<c10d::TCPStore> connect(const Launch& launch, std::chrono::milliseconds within) {
  quiet_c10d();
  c10d::TCPStoreOptions options;
  options.port = launch.master_port;
  options.isServer = launch.rank == 0 && !launch.launcher_hosts_store;
  options.waitWorkers = false;  // one that is late joins late
  // c10d would wait for seconds between two attempts; process 0 is mostly a moment late.
  options.timeout = std::min(within, std::chrono::milliseconds(500));
  const Clock::time_point end = Clock::now() + within;
  for (;;) {
    try {
      auto store = c10::make_intrusive<c10d::TCPStore>(launch.master_addr, options);
      store->setTimeout(c10d::Store::kDefaultTimeout);
      return store;
    } catch (const std::exception& e) {
      HEADLENS_CHECK(Error, !options.isServer && Clock::now() < end,
                     "[processes] store at {}:{}, expected {}, got: {}", launch.master_addr,
                     launch.master_port,
                     options.isServer ? "a free port (MASTER_PORT)" : "that of process 0",
                     first_line(e.what()));
    }
  }
}

/// Says every `interval` that this process is there, on a connection of its own: the main thread's
/// may be waiting.
class Heartbeat {
 public:
  Heartbeat(StorePtr store, std::string key, std::chrono::milliseconds interval)
      : thread_([this, store = std::move(store), key = std::move(key), interval] {
          beat(*store, key, interval);
        }) {}
  ~Heartbeat() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

 private:
  void beat(c10d::Store& store, const std::string& key, std::chrono::milliseconds interval) {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      try {
        store.add(key, 1);
      } catch (const std::exception&) {
        return;  // the main thread meets the same, and says so
      }
      wake_.wait_for(lock, interval, [this] { return stop_; });
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

struct ProcessStore::Impl {
  struct Sign {
    int64_t beats = 0;  // nothing heard of it yet, since we are here
    Clock::time_point seen;
  };

  Launch launch;
  std::chrono::milliseconds lost_after;
  c10::intrusive_ptr<c10d::TCPStore> server;  // or a client of one
  StorePtr store;
  Clock::time_point begun = Clock::now();
  std::map<int64_t, Sign> signs;
  std::unique_ptr<Heartbeat> heartbeat;
  bool left = false;

  /// One operation on the store.
  template <typename Operation>
  auto ask(const Operation& operation) {
    try {
      return operation(*store);
    } catch (const std::exception& e) {
      HEADLENS_FAIL(Error,
                    "[processes] process 0, expected its store at {}:{} to answer, got: {}; its "
                    "journal is left, --resume goes on",
                    launch.master_addr, launch.master_port, first_line(e.what()));
    }
  }
};

ProcessStore::ProcessStore(const Launch& launch, std::chrono::milliseconds lost_after,
                           std::chrono::milliseconds connect_within)
    : impl_(std::make_unique<Impl>()) {
  Impl& own = *impl_;
  own.launch = launch;
  own.lost_after = lost_after;
  own.server = connect(launch, connect_within);
  // A launcher's store outlives a restart and holds keys of its own.
  const auto prefix = fmt::format("headlens/{}", launch.restarts);
  own.store = c10::make_intrusive<c10d::PrefixStore>(prefix, own.server);
  StorePtr beats = own.ask([&](c10d::Store&) -> StorePtr {
    return c10::make_intrusive<c10d::PrefixStore>(prefix, own.server->clone());
  });
  constexpr std::chrono::milliseconds kBeat{1000};
  const auto interval = std::min(kBeat, lost_after / 8);
  own.heartbeat = std::make_unique<Heartbeat>(std::move(beats), rank_key("beats", launch.rank),
                                              std::max(interval, std::chrono::milliseconds(10)));
}

ProcessStore::~ProcessStore() {
  if (impl_->left) return;
  try {  // it failed: the others need not wait to find out
    impl_->store->set(rank_key("failed", impl_->launch.rank), Bytes{1});
  } catch (const std::exception&) {
    return;  // there is nobody to tell
  }
}

void ProcessStore::set(const std::string& key, const std::string& value) {
  impl_->ask([&](c10d::Store& store) { store.set(key, bytes_of(value)); });
}

bool ProcessStore::has(const std::string& key) {
  return impl_->ask([&](c10d::Store& store) { return store.check({key}); });
}

std::string ProcessStore::get(const std::string& key) {
  const Bytes value = impl_->ask([&](c10d::Store& store) { return store.get(key); });
  return {value.begin(), value.end()};
}

int64_t ProcessStore::add(const std::string& key, int64_t amount) {
  return impl_->ask([&](c10d::Store& store) { return store.add(key, amount); });
}

void ProcessStore::push(const std::string& list, uint32_t number) {
  Bytes value(sizeof number);
  std::memcpy(value.data(), &number, sizeof number);
  impl_->ask([&](c10d::Store& store) { store.append(list, value); });
}

std::vector<uint32_t> ProcessStore::list(const std::string& list) {
  if (!has(list)) return {};
  const std::string value = get(list);
  std::vector<uint32_t> numbers(value.size() / sizeof(uint32_t));
  std::memcpy(numbers.data(), value.data(), numbers.size() * sizeof(uint32_t));
  return numbers;
}

bool ProcessStore::has_left(int64_t rank) {
  return has(rank_key("left", rank));
}

bool ProcessStore::is_lost(int64_t rank) {
  if (has(rank_key("failed", rank))) return true;
  const int64_t beats = add(rank_key("beats", rank), 0);
  const Clock::time_point now = Clock::now();
  Impl::Sign& sign = impl_->signs.try_emplace(rank, Impl::Sign{0, impl_->begun}).first->second;
  if (beats != sign.beats) sign = {beats, now};
  return now - sign.seen > impl_->lost_after;
}

void ProcessStore::leave() {
  set(rank_key("left", impl_->launch.rank), "1");
  impl_->left = true;
}

void ProcessStore::check_leader() {
  if (impl_->launch.rank == 0) return;
  HEADLENS_CHECK(
      Error, !is_lost(0),
      "[processes] process 0, expected to be there, got that it failed or was silent for "
      "{} s; its journal is left, --resume goes on",
      std::chrono::duration<double>(impl_->lost_after).count());
}

}  // namespace headlens
