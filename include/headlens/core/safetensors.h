// headlens/core: reading and writing safetensors files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "headlens/core/dtype.h"

namespace headlens {

class MappedFile;

/// What a safetensors header says of one tensor.
struct TensorInfo {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // byte offsets into the data section, end exclusive
  uint64_t end = 0;

  int64_t bytes() const { return static_cast<int64_t>(end - begin); }
};

/// An opened, fully checked safetensors file. Cheap to copy (copies share the mapping); safe to
/// read from many threads. All errors are CheckpointErrors that name the file and the tensor.
class SafetensorsFile {
 public:
  /// Maps the file and checks the whole header: lengths, JSON, dtypes, shapes, and that the
  /// tensors fill the data section without hole or overlap. No tensor data is read.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// Tensor names in sorted order.
  std::vector<std::string> names() const;
  bool has(std::string_view name) const;
  /// Throws CheckpointError if there is no such tensor.
  const TensorInfo& info(std::string_view name) const;

  /// The tensor on the CPU, in the file's dtype and shape, without a copy: it views the mapping
  /// and keeps it alive. Writing to it changes private pages, never the file. A tensor whose
  /// offset is not a multiple of its element size is copied.
  Tensor tensor(std::string_view name) const;

  /// The strings under `__metadata__`.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// The JSON header as stored, padding included.
  std::string_view header() const;
  int64_t file_size() const;

 private:
  SafetensorsFile() = default;

  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
  uint64_t data_start_ = 0;  // byte offset of the data section in the file
  std::map<std::string, TensorInfo, std::less<>> tensors_;
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
