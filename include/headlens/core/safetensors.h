// headlens/core: reading and writing safetensors files.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "headlens/core/weight_file.h"

namespace headlens {

/// An opened, fully checked safetensors file.
class SafetensorsFile : public WeightFile {
 public:
  /// Maps the file and checks the whole header: lengths, JSON, dtypes, shapes, and that the
  /// tensors fill the data section without hole or overlap. No tensor data is read.
  static SafetensorsFile open(const std::filesystem::path& path);

  /// The strings under `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  using WeightFile::WeightFile;

  std::map<std::string, std::string> metadata_;
};

/// Writes tensors (any device, any strides; distinct names) to a temporary file beside `path`,
/// syncs it and renames it over `path`, so readers see the old file or the whole new one. The
/// bytes depend only on the arguments, not on the order of `tensors`. Throws CheckpointError for
/// names and tensors that the format cannot hold, Error if the file cannot be written.
void save_safetensors(const std::filesystem::path& path,
                      const std::vector<std::pair<std::string, Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace headlens
