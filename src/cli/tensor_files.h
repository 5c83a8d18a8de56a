// headlens/cli: tensors written in the format that a file's name asks for.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "headlens/core/dtype.h"

namespace headlens::cli {

/// `export RESULT`, as commands.h has the other commands.
void add_export(CLI::App& app, Action& action);

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// CSV and JSON hold no more values than this: they are for looking at, not for storing.
inline constexpr int64_t kMostWrittenValues = 2'000'000;

/// UsageError unless the name ends in .safetensors, .npz, .csv or .json. `where`: of the message.
void check_tensor_file(const char* where, const std::filesystem::path& path);

/// UsageError if a .csv or .json file would hold more than kMostWrittenValues values.
void check_written_values(const char* where, const std::filesystem::path& path, int64_t values);

/// .safetensors and .npz: as they are (npz: bfloat16 as float32). .csv: one line a value, "tensor,
/// i0, i1, i2, i3, i4, value", the indices of a tensor's dimensions (empty beyond them). .json:
/// {"metadata": {..}, "tensors": [{"name", "dtype", "shape", "values"}]}, values in row-major
/// order, null for what is not finite. Errors as above and as the writers'.
void save_tensors(const char* where, const std::filesystem::path& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata);

}  // namespace headlens::cli
