// headlens/cli: what to do about an error whose words do not say so themselves.
#include "cli/remedies.h"

#include <fmt/format.h>

#include <string_view>

namespace headlens::cli {
namespace {

struct Remedy {
  std::string_view part;  // of the message
  std::string_view remedy;
};

constexpr std::string_view kPath = "check the path and who may read it";
constexpr std::string_view kAgain = "copy or download the file again";
constexpr std::string_view kDisk = "check the disk's free space and who may write there";
constexpr std::string_view kReport = "please report this line with the command";

/// The first that fits counts. `tools/dev/list_errors.py --bare` lists the messages.
constexpr Remedy kRemedies[] = {
    {"expected a readable", kPath},
    {"expected to be opened", kPath},
    {"expected to be reachable", kPath},
    {"expected valid JSON", "mend the file at that place"},
    {"cut short", kAgain},
    {"got it outside", kAgain},
    {"in the archive, got none", kAgain},
    {"got less than the file had", "the file changed while it was read: run the command again"},
    {"expected to be mapped", "copy the file to a local disk"},
    {"journal, expected to be", kDisk},
    {"expected to be written", kDisk},
    {"expected to be created", kDisk},
    {"expected to be finished", kDisk},
    {"expected to be made", kDisk},
    {"expected to be added", kDisk},
    {"expected a directory to write in", "make it first, or name another with --out"},
    {"expected a directory, got", kDisk},
    {"[record] sites, expected each to fire", "record sites that headlens inspect MODEL lists"},
    {"expected each to fire", "name sites that headlens inspect MODEL lists"},
    {"dtype, expected one that NumPy has", "write .safetensors instead"},
    {"expected to be run from its start", "give the whole text at once"},
    {"expected one that compiles", "give another tokenizer with --tokenizer"},
    {"[processes]", "start every process with the same command, files and version"},
    {"[graft] device of the donor's layer", "give --device one device for both models"},
    {"cap on memory", "raise the cap, or choose --dtype bfloat16"},
    {"[memory]",
     "lower --batch-tokens, cap with --max-gpu-memory or --max-host-memory, or choose "
     "--dtype bfloat16"},
    {"[torch]", "try --device cpu, and report this line with the command if that works"},
    {"[internal]", kReport}};

}  // namespace

std::string with_remedy(const std::string& message) {
  if (message.find("; ") != std::string::npos) return message;
  for (const Remedy& entry : kRemedies) {
    if (message.find(entry.part) == std::string::npos) continue;
    return message + "; " + std::string(entry.remedy);
  }
  return message;
}

std::string lost_device_line(const std::string& failure, const std::filesystem::path& kept) {
  const size_t name = failure.find(": ");
  const std::string remedy =
      kept.empty()
          ? "see that nvidia-smi shows it, then run the command again, or with --device cpu"
          : fmt::format(
                "what was finished is kept in {}: the same command with --resume "
                "goes on once the GPU is back",
                kept.string());
  return fmt::format("[device] {}, expected to work until the end, got {}; {}",
                     failure.substr(0, name), failure.substr(name + 2), remedy);
}

}  // namespace headlens::cli
