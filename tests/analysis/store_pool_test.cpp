// headlens/tests: pools of several processes, here threads with a store between them.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <future>
#include <set>
#include <thread>

#include "analysis/process_store.h"
#include "core/error_message.h"
#include "headlens/analysis/work_pool.h"
#include "headlens/core/error.h"
#include "support/temp_dir.h"

namespace headlens {
namespace {

using testing::error_message;
using testing::TempDir;

constexpr std::chrono::milliseconds kSoon{300};

/// A port that was free a moment ago.
uint16_t free_port() {
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

std::vector<std::string> keys_of(size_t items) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < items; ++i) keys.push_back("item " + std::to_string(i));
  return keys;
}

std::string result_of(size_t item) {
  return std::string(item, 'x') + '\0' + std::to_string(item);
}

std::vector<std::string> results_of(size_t items) {
  std::vector<std::string> results;
  for (size_t i = 0; i < items; ++i) results.push_back(result_of(i));
  return results;
}

class StorePoolTest : public ::testing::Test {
 protected:
  Launch launch_of(int64_t rank, int64_t world_size) const {
    Launch launch;
    launch.rank = rank;
    launch.world_size = world_size;
    launch.master_addr = "127.0.0.1";
    launch.master_port = port_;
    return launch;
  }
  std::unique_ptr<WorkPool> pool_of(int64_t rank, int64_t world_size,
                                    std::chrono::milliseconds lost_after = kSoon) const {
    return make_store_pool(launch_of(rank, world_size),
                           {lost_after, std::chrono::milliseconds(20'000)});
  }
  Journal journal() const { return Journal::open(path_, {}, {}, Journal::Existing::Resume); }

  TempDir dir_;
  const std::filesystem::path path_ = dir_.path() / "x.journal";
  const uint16_t port_ = free_port();
};

TEST_F(StorePoolTest, EveryProcessGetsEveryResultAndEachIsComputedOnce) {
  constexpr size_t kItems = 40, kProcesses = 3;
  std::vector<std::atomic<int>> computed(kItems);
  std::vector<std::atomic<int>> taken(kProcesses);
  std::barrier all_are_there(kProcesses);
  std::vector<std::thread> processes;
  for (size_t rank = 0; rank < kProcesses; ++rank) {
    processes.emplace_back([&, rank] {
      // Nobody is lost here, whatever else the machine does.
      const auto pool = pool_of(static_cast<int64_t>(rank), kProcesses, std::chrono::seconds(60));
      pool->start({{"model", "1f"}}, std::nullopt);
      all_are_there.arrive_and_wait();
      EXPECT_EQ(pool->leads(), rank == 0);
      for (int step = 0; step < 2; ++step) {
        const auto results = pool->run(keys_of(kItems), [&](size_t i) {
          ++computed[i];
          ++taken[rank];
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
          return result_of(i);
        });
        EXPECT_EQ(results, results_of(kItems));
      }
      EXPECT_EQ(pool->run({}, [](size_t) { return ""; }), std::vector<std::string>());
      pool->finish();
    });
  }
  for (std::thread& process : processes) process.join();
  for (size_t i = 0; i < kItems; ++i) EXPECT_EQ(computed[i], 2) << "item " << i;
  for (size_t rank = 0; rank < kProcesses; ++rank) EXPECT_GT(taken[rank], 0) << "rank " << rank;
}

// What a process that takes items and is never heard of again leaves in the store: with its name
// on them, or killed before it could write that.
TEST_F(StorePoolTest, ItemsOfASilentProcessAreDoneByOthers) {
  for (const bool named : {true, false}) {
    const auto pool = pool_of(0, 2);
    ProcessStore third(launch_of(2, 3), std::chrono::seconds(60), std::chrono::seconds(20));
    EXPECT_EQ(third.add("0/next", 2), 2);
    if (named) third.set("0/owner/0", "1");
    if (named) third.set("0/owner/1", "1");
    pool->start({}, std::nullopt);
    std::vector<size_t> computed;
    const auto results = pool->run(keys_of(5), [&](size_t i) {
      computed.push_back(i);
      return result_of(i);
    });
    EXPECT_EQ(results, results_of(5));
    EXPECT_EQ(computed, (std::vector<size_t>{2, 3, 4, 0, 1}));
    pool->finish();
    third.leave();
  }
}

TEST_F(StorePoolTest, ItemsOfAProcessThatFailedAreDoneByOthers) {
  const auto leader = pool_of(0, 2, std::chrono::seconds(60));
  std::promise<void> promise;
  const std::shared_future<void> failed = promise.get_future().share();
  std::thread other([&] {
    const auto pool = pool_of(1, 2, std::chrono::seconds(60));
    pool->start({}, std::nullopt);
    EXPECT_EQ(error_message<Error>([&] {
                pool->run(keys_of(4), [](size_t) -> std::string { throw Error("out of memory"); });
              }),
              "out of memory");
    promise.set_value();
  });
  leader->start({}, std::nullopt);
  std::set<size_t> computed;
  const auto results = leader->run(keys_of(4), [&](size_t i) {
    failed.wait();  // so the other has had one
    computed.insert(i);
    return result_of(i);
  });
  other.join();
  EXPECT_EQ(results, results_of(4));
  EXPECT_EQ(computed.size(), 4u);
  leader->finish();  // waits for nobody: the other said that it failed
}

TEST_F(StorePoolTest, ALateProcessJoins) {
  const auto leader = pool_of(0, 2, std::chrono::seconds(60));
  leader->start({}, std::nullopt);
  EXPECT_EQ(leader->run(keys_of(3), result_of), results_of(3));
  std::thread late([&] {
    const auto pool = pool_of(1, 2);
    pool->start({}, std::nullopt);
    EXPECT_EQ(pool->run(keys_of(3),
                        [](size_t) -> std::string {
                          ADD_FAILURE() << "it was all done";
                          return "";
                        }),
              results_of(3));
    pool->finish();
  });
  leader->finish();
  late.join();
}

TEST_F(StorePoolTest, TheLeaderJournalsWhatOthersDid) {
  {
    const auto leader = pool_of(0, 2);
    leader->start({}, journal());
    std::thread other([&] {
      const auto pool = pool_of(1, 2);
      pool->start({}, std::nullopt);
      pool->run(keys_of(12), [](size_t i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        return result_of(i);
      });
      pool->finish();
    });
    leader->run(keys_of(12), [](size_t i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      return result_of(i);
    });
    other.join();
  }  // and is killed before it could finish
  const auto leader = pool_of(0, 1);
  leader->start({}, journal());
  size_t computed = 0;
  const auto results = leader->run(keys_of(13), [&](size_t i) {
    ++computed;
    return result_of(i);
  });
  EXPECT_EQ(results, results_of(13));
  EXPECT_EQ(computed, 1u);
  EXPECT_TRUE(std::filesystem::exists(path_));
  leader->finish();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(StorePoolTest, TheOthersEndWithoutTheLeader) {
  std::string message;
  auto leader = pool_of(0, 2);
  leader->start({}, std::nullopt);
  std::thread other([&] {
    const auto pool = pool_of(1, 2);
    pool->start({}, std::nullopt);
    message = error_message<Error>([&] { pool->run(keys_of(3), result_of); });
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  leader.reset();  // its store goes with it
  other.join();
  EXPECT_TRUE(message.starts_with("[processes] process 0, expected ")) << message;
  EXPECT_TRUE(message.ends_with("its journal is left, --resume goes on")) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST_F(StorePoolTest, ProcessesOfUnlikeRunsDoNotWorkTogether) {
  const auto leader = pool_of(0, 3);
  leader->start({{"model", "1f"}, {"task", "kv"}}, std::nullopt);
  const auto other = pool_of(1, 3);
  EXPECT_EQ(error_message<Error>([&] {
              other->start({{"model", "1f"}, {"task", "mcq"}}, std::nullopt);
            }),
            "[processes] task of process 1, expected that of process 0, got 'mcq'");
  std::thread third([&] {
    const auto pool = pool_of(2, 3);
    pool->start({{"model", "1f"}, {"task", "kv"}}, std::nullopt);
    EXPECT_NE(error_message<Error>([&] {
                pool->run(keys_of(4), result_of);
              }).find("work of process 2, expected that of process 0"),
              std::string::npos);
  });
  EXPECT_EQ(leader->run(keys_of(3), result_of), results_of(3));
  third.join();
}

TEST_F(StorePoolTest, SaysThatThereIsNoStore) {
  const std::string message = error_message<Error>([&] {
    make_store_pool(launch_of(1, 2), {kSoon, std::chrono::milliseconds(200)});
  });
  EXPECT_TRUE(message.starts_with("[processes] store at 127.0.0.1:" + std::to_string(port_) +
                                  ", expected that of process 0, got: "))
      << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
  const auto leader = pool_of(0, 2);
  EXPECT_NE(error_message<Error>([&] { pool_of(0, 2); }).find("expected a free port (MASTER_PORT)"),
            std::string::npos);
}

}  // namespace
}  // namespace headlens
