// headlens/analysis: which of how many processes this one is, as its launcher says.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace headlens {

/// One process among those that a launcher started together.
struct Launch {
  std::string launcher;               ///< "torchrun", "mpirun", "srun"
  int64_t rank = 0;                   ///< 0 .. world_size - 1
  int64_t world_size = 1;             ///< processes of all machines
  int64_t local_rank = 0;             ///< among those of this machine
  std::string master_addr;            ///< host of the store
  uint16_t master_port = 0;           ///< its port
  bool launcher_hosts_store = false;  ///< else process 0 hosts it
  int64_t restarts = 0;               ///< how often the launcher has begun anew
};

/// Value of an environment variable, or nullptr.
using Environment = std::function<const char*(const char*)>;

/// Reads the variables of torchrun (RANK, WORLD_SIZE, LOCAL_RANK; so also those set by hand), of
/// mpirun (OMPI_COMM_WORLD_*; PMI_* with MPI_LOCALRANKID) and of srun (SLURM_*), in this order: an
/// outer launcher's are inherited. MASTER_ADDR and MASTER_PORT count with any of them; without
/// them, mpirun and srun on one machine take 127.0.0.1, srun on several the step's first node.
/// Nothing without a launcher. UsageError for a variable that is no number in range, or for
/// processes on several machines without an address.
std::optional<Launch> read_launch(const Environment& environment);
/// That of this process.
std::optional<Launch> read_launch();

}  // namespace headlens
