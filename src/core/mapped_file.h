// headlens/core: a file mapped into memory for as long as an object lives.
#pragma once

#include <cstddef>
#include <filesystem>

namespace headlens {

/// Maps a whole file copy-on-write: writes through `data()` stay in this process. An empty file
/// has size 0 and a null `data()`. Throws CheckpointError if it cannot be opened or mapped.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace headlens
