// headlens/core: a file of named tensors, whatever its format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "headlens/core/dtype.h"

namespace headlens {

class MappedFile;

/// What a file says of one tensor.
struct TensorInfo {
  at::ScalarType dtype;          ///< as stored
  std::vector<int64_t> shape;    ///< as stored
  std::vector<int64_t> strides;  ///< in elements; of a safetensors file always contiguous
  uint64_t begin = 0;            ///< byte range in the file that the elements lie in, end exclusive
  uint64_t end = 0;              ///< past the last byte

  bool operator==(const TensorInfo&) const = default;
  /// Of all elements.
  int64_t bytes() const;
  /// Whether the range holds the elements in row-major order.
  bool is_contiguous() const;
};

/// An opened, fully checked file of weights. Cheap to copy (copies share the mapping); safe to read
/// from many threads. All errors are CheckpointErrors that name the file and the tensor.
class WeightFile {
 public:
  /// Opens by the file's name: `*.safetensors` as SafetensorsFile, all else as TorchFile.
  static WeightFile open(const std::filesystem::path& path);

  /// The file.
  const std::filesystem::path& path() const { return path_; }
  /// Tensor names in sorted order.
  std::vector<std::string> names() const;
  bool has(std::string_view name) const;  ///< whether there is a tensor of this name
  /// Throws CheckpointError if there is no such tensor.
  const TensorInfo& info(std::string_view name) const;

  /// The tensor on the CPU, in the file's dtype and shape, without a copy: it views the mapping
  /// and keeps it alive. Writing to it changes private pages, never the file. A tensor whose
  /// offset is not a multiple of its element size is copied.
  Tensor tensor(std::string_view name) const;
  /// Copies `size` bytes from `offset` of the tensor's range, by reads on several threads; the
  /// mapping and what was written to views of it stay untouched.
  void read(std::string_view name, uint64_t offset, void* out, size_t size) const;
  /// Lets go of the memory that reading the tensor's pages took. What was written to a view of it
  /// is lost.
  void release(std::string_view name) const;

  /// What the file says of its tensors, as stored.
  std::string_view header() const { return header_; }
  int64_t file_size() const;  ///< bytes

 protected:
  /// Maps the file; a reader then adds its tensors.
  explicit WeightFile(const std::filesystem::path& path);
  const MappedFile& file() const { return *file_; }               ///< the mapping
  void set_header(std::string_view header) { header_ = header; }  ///< what header() gives
  void add(std::string name, TensorInfo info);                    ///< checked by the reader
  /// Where a message is about: "[model.safetensors] tensor 'wte.weight'".
  std::string about(std::string_view name) const;

 private:
  std::filesystem::path path_;
  std::shared_ptr<const MappedFile> file_;
  std::string_view header_;  // into the mapping
  std::map<std::string, TensorInfo, std::less<>> tensors_;
};

}  // namespace headlens
