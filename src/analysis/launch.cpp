// headlens/analysis: which of how many processes this one is, as its launcher says.
#include "headlens/analysis/launch.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "core/check.h"

namespace headlens {
namespace {

constexpr uint16_t kDefaultPort = 29500;                           // torch.distributed's
constexpr int64_t kSlurmPorts = 10'000, kFirstSlurmPort = 20'000;  // below the ephemeral ones

/// The names a launcher gives to the same facts. Empty: it has none for it.
struct Names {
  const char* launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;
};

constexpr Names kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    // Of the step, not of the job: a batch script has the job's variables and is not a task.
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""}};

class Reader {
 public:
  explicit Reader(const Environment& environment) : environment_(environment) {}

  /// Empty if it is not set.
  std::string text(const char* name) const {
    const char* value = *name == '\0' ? nullptr : environment_(name);
    return value == nullptr ? "" : value;
  }
  bool has(const char* name) const { return !text(name).empty(); }

  int64_t number(const char* name, int64_t fallback, int64_t least, int64_t most) const {
    const std::string word = text(name);
    if (word.empty()) return fallback;
    int64_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    const bool whole = error == std::errc() && end == word.data() + word.size();
    HEADLENS_CHECK(UsageError, whole && value >= least && value <= most,
                   "[launch] {}, expected a number from {} to {}, got '{}'", name, least, most,
                   word);
    return value;
  }

 private:
  const Environment& environment_;
};

/// "node[03-07,9],other" -> "node03".
std::string first_host(const std::string& list) {
  std::string head = list.substr(0, list.find_first_of(",["));
  const size_t bracket = list.find('[');
  if (bracket != head.size()) return head;
  const size_t end = list.find_first_of("-,]", bracket);
  return head + list.substr(bracket + 1, end - bracket - 1);
}

bool on_one_machine(const Reader& reader, const Names& names, const Launch& launch) {
  if (reader.has("SLURM_STEP_NUM_NODES") && std::string_view(names.launcher) == "srun")
    return reader.text("SLURM_STEP_NUM_NODES") == "1";
  return reader.number(names.local_size, 0, 0, INT32_MAX) == launch.world_size;
}

void find_store(const Reader& reader, const Names& names, Launch& launch) {
  const bool slurm = launch.launcher == "srun";
  launch.master_addr = reader.text("MASTER_ADDR");
  if (launch.master_addr.empty() && on_one_machine(reader, names, launch)) {
    launch.master_addr = "127.0.0.1";
  }
  if (launch.master_addr.empty() && slurm) {
    launch.master_addr = first_host(reader.text("SLURM_STEP_NODELIST"));
  }
  HEADLENS_CHECK(UsageError, !launch.master_addr.empty() || launch.world_size == 1,
                 "[launch] MASTER_ADDR, expected the machine of process 0 of {}, got nothing",
                 launch.world_size);
  int64_t port = kDefaultPort;
  if (slurm) {  // two steps on one machine must not meet
    const int64_t job = reader.number("SLURM_JOB_ID", 0, 0, INT64_MAX / 64);
    port = kFirstSlurmPort +
           (job * 31 + reader.number("SLURM_STEP_ID", 0, 0, UINT32_MAX)) % kSlurmPorts;
  }
  launch.master_port = static_cast<uint16_t>(reader.number("MASTER_PORT", port, 1, UINT16_MAX));
}

}  // namespace

std::optional<Launch> read_launch(const Environment& environment) {
  const Reader reader(environment);
  for (const Names& names : kLaunchers) {
    if (!reader.has(names.rank) || !reader.has(names.size)) continue;
    Launch launch;
    launch.launcher = names.launcher;
    launch.world_size = reader.number(names.size, 1, 1, INT32_MAX);
    launch.rank = reader.number(names.rank, 0, 0, launch.world_size - 1);
    const int64_t local = reader.number("SLURM_LOCALID", launch.rank, 0, INT32_MAX);
    launch.local_rank = reader.number(names.local_rank, local, 0, INT32_MAX);
    find_store(reader, names, launch);
    launch.launcher_hosts_store = reader.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
    launch.restarts = reader.number("TORCHELASTIC_RESTART_COUNT", 0, 0, INT32_MAX);
    return launch;
  }
  return std::nullopt;
}

std::optional<Launch> read_launch() {
  return read_launch([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace headlens
