// headlens/core: a file mapped into memory for as long as an object lives.
#pragma once

#include <cstddef>
#include <cstdint>
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

  /// Reads from the file itself, not the mapping, so no page of it becomes resident. False if the
  /// file no longer has all of it.
  bool read(uint64_t offset, std::byte* out, size_t size) const;
  /// Drops the whole pages within [begin, end) from this process; they come from the file again
  /// when touched, without what was written to them.
  void release(uint64_t begin, uint64_t end) const;

 private:
  int fd_ = -1;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace headlens
