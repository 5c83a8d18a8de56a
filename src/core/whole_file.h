// headlens/core: files that are written whole or not at all.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace headlens {

/// A file without a name (where the file system has none such, under a temporary one beside
/// `path`); commit() gives it its name once its bytes are on the disk, and without that it is gone.
/// A device or a pipe is written to as it is. Throws Error naming `path` and the system's reason.
class WholeFile {
 public:
  explicit WholeFile(const std::filesystem::path& path);
  ~WholeFile();
  WholeFile(const WholeFile&) = delete;
  WholeFile& operator=(const WholeFile&) = delete;

  void write(const void* data, size_t size);
  void commit();

 private:
  bool take_name();

  std::filesystem::path path_;
  std::string pending_;    // the name before the last one; empty: none is wanted
  bool nameless_ = false;  // not even that
  int fd_ = -1;
};

/// Puts `bytes` into `path`: readers see the old file or the new one, never a part.
void write_whole_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace headlens
