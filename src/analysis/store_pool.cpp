// headlens/analysis: work items done once each, by the processes of a launcher.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "analysis/process_store.h"
#include "core/check.h"
#include "headlens/analysis/work_pool.h"

namespace headlens {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPoll{20};

std::string joined(const std::vector<std::string>& keys) {
  std::string all;
  for (const std::string& key : keys) all += key + "\n";
  return all;
}

/// One call of `run`: its items, in the store under `name`.
class Step {
 public:
  Step(ProcessStore& store, const Launch& launch, std::chrono::milliseconds lost_after,
       std::string name, size_t items)
      : store_(store),
        launch_(launch),
        lost_after_(lost_after),
        name_(std::move(name)),
        results_(items) {}

  /// Process 0: publishes what the journal has and lets everyone begin.
  void open(const std::vector<std::string>& keys, const Journal* journal);
  /// Another process: waits for that. Error if process 0 is at other work.
  void join(const std::vector<std::string>& keys);

  /// Takes in results that are new; calls `seen(item, result)` for each.
  void collect(const std::function<void(size_t, const std::string&)>& seen);
  bool complete() const { return done_ == results_.size(); }
  size_t done() const { return done_; }
  /// An item that this process shall compute, or nothing at the moment.
  std::optional<size_t> take();
  void publish(size_t item, const std::string& result);
  std::vector<std::string> take_results();

 private:
  /// How the item of a process that is lost is given to another: whoever is first to count up the
  /// generation has it.
  struct Unfinished {
    int64_t generation = 1;
    Clock::time_point since = Clock::now();  // of its last known owner's taking it
  };
  std::optional<size_t> take_over();
  bool owner_is_lost(size_t item, const Unfinished& unfinished);

  std::string key(const char* what) const { return name_ + what; }
  std::string key(const char* what, size_t item) const {
    return fmt::format("{}{}/{}", name_, what, item);
  }

  ProcessStore& store_;
  const Launch& launch_;
  std::chrono::milliseconds lost_after_;
  std::string name_;
  std::vector<std::optional<std::string>> results_;
  std::vector<uint32_t> todo_;  // items that the journal does not have, in the order they are taken
  std::map<size_t, Unfinished> unfinished_;
  size_t done_ = 0, listed_ = 0;
};

void Step::open(const std::vector<std::string>& keys, const Journal* journal) {
  for (uint32_t i = 0; i < keys.size(); ++i) {
    const std::string* known = journal != nullptr ? journal->find(keys[i]) : nullptr;
    if (known != nullptr) {
      publish(i, *known);
    } else {
      todo_.push_back(i);
      store_.push(key("todo"), i);
    }
  }
  store_.set(key("open"), checksum_text(joined(keys)));
}

void Step::join(const std::vector<std::string>& keys) {
  while (!store_.has(key("open"))) {
    store_.check_leader();
    std::this_thread::sleep_for(kPoll);
  }
  const std::string expected = store_.get(key("open")), got = checksum_text(joined(keys));
  HEADLENS_CHECK(Error, expected == got,
                 "[processes] work of process {}, expected that of process 0 ({}), got {}",
                 launch_.rank, expected, got);
  todo_ = store_.list(key("todo"));
}

void Step::collect(const std::function<void(size_t, const std::string&)>& seen) {
  const std::vector<uint32_t> listed = store_.list(key("done"));
  for (; listed_ < listed.size(); ++listed_) {
    const size_t item = listed[listed_];
    if (results_.at(item)) continue;  // done twice, with the same result
    results_[item] = store_.get(key("result", item));
    ++done_;
    seen(item, *results_[item]);
  }
}

std::optional<size_t> Step::take() {
  const int64_t next = store_.add(key("next"), 1) - 1;
  if (next >= std::ssize(todo_)) return take_over();
  const size_t item = todo_[static_cast<size_t>(next)];
  store_.set(key("owner", item), std::to_string(launch_.rank));
  return item;
}

bool Step::owner_is_lost(size_t item, const Unfinished& unfinished) {
  if (!store_.has(key("owner", item))) {  // lost between taking it and saying so?
    return Clock::now() - unfinished.since > lost_after_;
  }
  return store_.is_lost(std::stoll(store_.get(key("owner", item))));
}

std::optional<size_t> Step::take_over() {
  for (const uint32_t item : todo_) {
    if (results_[item]) continue;
    Unfinished& unfinished = unfinished_[item];
    const bool just_taken =
        unfinished.generation > 1 && Clock::now() - unfinished.since <= lost_after_;
    if (just_taken || !owner_is_lost(item, unfinished)) continue;
    const std::string generation = fmt::format("{}/{}", key("again", item), unfinished.generation);
    unfinished = {unfinished.generation + 1, Clock::now()};
    if (store_.add(generation, 1) != 1) continue;  // another process has it now
    store_.set(key("owner", item), std::to_string(launch_.rank));
    return item;
  }
  return std::nullopt;
}

void Step::publish(size_t item, const std::string& result) {
  store_.set(key("result", item), result);
  store_.push(key("done"), static_cast<uint32_t>(item));
}

std::vector<std::string> Step::take_results() {
  std::vector<std::string> all;
  for (std::optional<std::string>& result : results_) all.push_back(std::move(*result));
  return all;
}

class StorePool final : public WorkPool {
 public:
  StorePool(const Launch& launch, const StorePoolOptions& options)
      : launch_(launch),
        options_(options),
        store_(launch, options.lost_after, options.connect_within) {}

  void start(const RunIdentity& identity, std::optional<Journal> journal) override;
  std::vector<std::string> run(const std::vector<std::string>& keys, const Compute& compute,
                               const Progress& progress) override;
  bool leads() const override { return launch_.rank == 0; }
  void finish() override;

 private:
  Launch launch_;
  StorePoolOptions options_;
  ProcessStore store_;
  std::optional<Journal> journal_;
  int64_t steps_ = 0;
};

void StorePool::start(const RunIdentity& identity, std::optional<Journal> journal) {
  journal_ = std::move(journal);
  // Field by field, so that processes that do not agree can say about what.
  std::string own;
  for (const auto& [name, value] : identity) own += fmt::format("{}\n{}\n", name, value);
  if (leads()) return store_.set("identity", own);
  while (!store_.has("identity")) {
    store_.check_leader();
    std::this_thread::sleep_for(kPoll);
  }
  const std::string leader = store_.get("identity");
  const auto at = std::mismatch(own.begin(), own.end(), leader.begin(), leader.end()).first;
  const auto fields = std::count(own.begin(), at, '\n') / 2;
  HEADLENS_CHECK(
      Error, own == leader, "[processes] {} of process {}, expected that of process 0, got '{}'",
      fields < std::ssize(identity) ? identity[static_cast<size_t>(fields)].first : "run",
      launch_.rank,
      fields < std::ssize(identity) ? identity[static_cast<size_t>(fields)].second : "");
}

std::vector<std::string> StorePool::run(const std::vector<std::string>& keys,
                                        const Compute& compute, const Progress& progress) {
  if (progress) progress(0, std::ssize(keys));  // starts its clock
  Step step(store_, launch_, options_.lost_after, fmt::format("{}/", steps_++), keys.size());
  if (leads()) {
    step.open(keys, journal_ ? &*journal_ : nullptr);
  } else {
    step.join(keys);
  }
  const auto seen = [&](size_t item, const std::string& result) {
    if (journal_) journal_->append(keys[item], result);
    if (progress) progress(static_cast<int64_t>(step.done()), std::ssize(keys));
  };
  for (step.collect(seen); !step.complete(); step.collect(seen)) {
    if (const std::optional<size_t> item = step.take()) {
      step.publish(*item, compute(*item));
    } else {
      store_.check_leader();
      std::this_thread::sleep_for(kPoll);
    }
  }
  return step.take_results();
}

void StorePool::finish() {
  if (journal_) journal_->remove();
  if (leads()) {  // the others still read results from the store
    for (int64_t rank = 1; rank < launch_.world_size; ++rank) {
      while (!store_.has_left(rank) && !store_.is_lost(rank)) std::this_thread::sleep_for(kPoll);
    }
  }
  store_.leave();
}

}  // namespace

std::unique_ptr<WorkPool> make_store_pool(const Launch& launch, const StorePoolOptions& options) {
  return std::make_unique<StorePool>(launch, options);
}

}  // namespace headlens
