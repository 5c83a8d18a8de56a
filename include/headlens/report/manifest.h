// headlens/report: what makes a result repeatable, written into every report.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace headlens {

/// Where a result comes from. Plain words and numbers, in the order they are shown.
struct Manifest {
  std::string headlens_version;  ///< as version()
  std::string git_revision;      ///< empty: built outside a repository
  std::string torch_version;     ///< LibTorch's
  std::string command;           ///< the command line
  std::string checkpoint;   ///< fingerprint of config, tensor headers and samples of the weights
  std::string certificate;  ///< what scripts/certify found of this checkpoint; empty: it never ran
  std::string device;       ///< "cpu", "cuda:0"
  std::string dtype;        ///< "float32", ..
  uint64_t seed = 0;        ///< --seed
  std::string started;      ///< UTC, ISO 8601
  double seconds = 0;       ///< wall clock of the whole job
  std::map<std::string, std::string> options;  ///< whatever else the job was told
};

}  // namespace headlens
