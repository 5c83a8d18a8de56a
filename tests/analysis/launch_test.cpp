// headlens/tests: what launchers say, as their manuals give it.
#include "headlens/analysis/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "core/error_message.h"
#include "headlens/core/error.h"

namespace headlens {
namespace {

using testing::error_message;
using Variables = std::map<std::string, std::string>;

std::optional<Launch> launch_of(const Variables& variables) {
  return read_launch([&](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  });
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node7"},
                             {"MASTER_PORT", "41233"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"}};

TEST(ReadLaunch, Torchrun) {
  const auto launch = launch_of(kTorchrun);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, "torchrun");
  EXPECT_EQ(launch->rank, 5);
  EXPECT_EQ(launch->world_size, 8);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->master_addr, "node7");
  EXPECT_EQ(launch->master_port, 41233);
  EXPECT_TRUE(launch->launcher_hosts_store);
  EXPECT_EQ(launch->restarts, 2);
}

TEST(ReadLaunch, OpenMpi) {
  const Variables one_machine = {{"OMPI_COMM_WORLD_RANK", "1"},
                                 {"OMPI_COMM_WORLD_SIZE", "2"},
                                 {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                 {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const auto launch = launch_of(one_machine);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, "mpirun");
  EXPECT_EQ(launch->rank, 1);
  EXPECT_EQ(launch->world_size, 2);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->master_addr, "127.0.0.1");
  EXPECT_EQ(launch->master_port, 29500);
  EXPECT_FALSE(launch->launcher_hosts_store);
  Variables two = one_machine;
  two["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  EXPECT_EQ(error_message<UsageError>([&] { launch_of(two); }),
            "[launch] MASTER_ADDR, expected the machine of process 0 of 2, got nothing");
  two["MASTER_ADDR"] = "10.0.0.3";
  EXPECT_EQ(launch_of(two)->master_addr, "10.0.0.3");
}

TEST(ReadLaunch, MpichAndItsKin) {
  const auto launch = launch_of({{"PMI_RANK", "3"},
                                 {"PMI_SIZE", "4"},
                                 {"MPI_LOCALRANKID", "3"},
                                 {"MPI_LOCALNRANKS", "4"},
                                 // its proxies are tasks of a step of their own
                                 {"SLURM_PROCID", "0"},
                                 {"SLURM_STEP_NUM_TASKS", "1"}});
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->world_size, 4);
  EXPECT_EQ(launch->local_rank, 3);
  EXPECT_EQ(launch->master_addr, "127.0.0.1");
}

const Variables kSrun = {
    {"SLURM_PROCID", "6"},         {"SLURM_STEP_NUM_TASKS", "8"},           {"SLURM_LOCALID", "2"},
    {"SLURM_STEP_NUM_NODES", "2"}, {"SLURM_STEP_NODELIST", "gpu[011-012]"}, {"SLURM_JOB_ID", "123"},
    {"SLURM_STEP_ID", "4"}};

TEST(ReadLaunch, Srun) {
  const auto launch = launch_of(kSrun);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->launcher, "srun");
  EXPECT_EQ(launch->rank, 6);
  EXPECT_EQ(launch->world_size, 8);
  EXPECT_EQ(launch->local_rank, 2);
  EXPECT_EQ(launch->master_addr, "gpu011");
  EXPECT_EQ(launch->master_port, 20000 + 123 * 31 + 4);
  for (const auto& [list, host] : Variables{{"alpha", "alpha"},
                                            {"alpha,beta", "alpha"},
                                            {"n[3,5-7],m[1-2]", "n3"},
                                            {"a-1.b,n[3-4]", "a-1.b"}}) {
    Variables other = kSrun;
    other["SLURM_STEP_NODELIST"] = list;
    EXPECT_EQ(launch_of(other)->master_addr, host) << list;
  }
  Variables one = kSrun;
  one["SLURM_STEP_NUM_NODES"] = "1";
  EXPECT_EQ(launch_of(one)->master_addr, "127.0.0.1");
}

// A batch script has the job's variables and is no task of a step; it would wait for the others.
TEST(ReadLaunch, NoLauncher) {
  EXPECT_FALSE(launch_of({}));
  EXPECT_FALSE(launch_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}}));
  EXPECT_FALSE(launch_of({{"RANK", "3"}}));
  EXPECT_FALSE(launch_of({{"WORLD_SIZE", "3"}}));
}

TEST(ReadLaunch, RefusesWhatIsNoRank) {
  const auto message = [](const char* name, const char* value) {
    Variables variables = kTorchrun;
    variables[name] = value;
    return error_message<UsageError>([&] { launch_of(variables); });
  };
  EXPECT_EQ(message("RANK", "8"), "[launch] RANK, expected a number from 0 to 7, got '8'");
  EXPECT_EQ(message("RANK", "one"), "[launch] RANK, expected a number from 0 to 7, got 'one'");
  EXPECT_EQ(message("MASTER_PORT", "0"),
            "[launch] MASTER_PORT, expected a number from 1 to 65535, got '0'");
}

}  // namespace
}  // namespace headlens
