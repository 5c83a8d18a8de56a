// headlens/core: NumPy .npz archives of tensors.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "headlens/core/dtype.h"
#include "headlens/core/weight_file.h"

namespace headlens {

/// Writes tensors so that `numpy.load(path)[name]` gives them back; uncompressed. bfloat16, which
/// NumPy has not, is written as float32. Throws CheckpointError if writing fails, or for a name
/// that is empty or there twice.
void save_npz(const std::filesystem::path& path,
              const std::vector<std::pair<std::string, Tensor>>& tensors);

/// An opened, fully checked archive of arrays as numpy.savez writes it: uncompressed, in C or
/// Fortran order.
class NpzFile : public WeightFile {
 public:
  /// Maps the file and checks the archive's directory and every array's header and length. No
  /// array is read. Throws CheckpointError.
  static NpzFile open(const std::filesystem::path& path);

 private:
  using WeightFile::WeightFile;
};

}  // namespace headlens
