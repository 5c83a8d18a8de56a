// headlens/core: writing tensors as a NumPy .npz archive.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "headlens/core/dtype.h"

namespace headlens {

/// Writes tensors so that `numpy.load(path)[name]` gives them back; uncompressed. bfloat16, which
/// NumPy has not, is written as float32. Throws CheckpointError if writing fails, or for a name
/// that is empty or there twice.
void save_npz(const std::filesystem::path& path,
              const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace headlens
