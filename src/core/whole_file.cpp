// headlens/core: files that are written whole or not at all.
#include "core/whole_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/check.h"

namespace headlens {

namespace {

/// A device or a pipe is written to; a file put in its place would be the end of it.
bool is_device(const std::filesystem::path& path) {
  struct stat status = {};
  const bool there = ::stat(path.c_str(), &status) == 0;
  return there && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

/// Brings the new name to the disk. Not every file system lets a folder be synced; the file is
/// whole without it.
void sync_folder(const std::filesystem::path& path) {
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)::fsync(fd);
  ::close(fd);
}

}  // namespace

WholeFile::WholeFile(const std::filesystem::path& path) : path_(path) {
  static std::atomic<int> counter = 0;  // names only: no two files of a process share one
  const std::string folder = path.has_parent_path() ? path.parent_path().string() : ".";
  if (is_device(path)) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    pending_ = path.string() + fmt::format(".{}-{}.tmp", ::getpid(), counter++);
    // Without a name, nothing is left of it when the process is killed; not every file system can.
    const bool can_be_named = ::access("/proc/self/fd", X_OK) == 0;
    if (can_be_named) fd_ = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    nameless_ = fd_ >= 0;
    if (!nameless_) {
      fd_ = ::open(pending_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    }
  }
  HEADLENS_CHECK(Error, fd_ >= 0, "[{}] file, expected to be created, got {}", path_.string(),
                 std::strerror(errno));
}

WholeFile::~WholeFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!pending_.empty() && !nameless_) ::unlink(pending_.c_str());
}

void WholeFile::write(const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(fd_, next, size);
    if (written < 0 && errno == EINTR) continue;
    HEADLENS_CHECK(Error, written > 0, "[{}] file, expected to be written, got {}", path_.string(),
                   std::strerror(errno));
    next += written;
    size -= static_cast<size_t>(written);
  }
}

/// Gives the file its name: at once where nothing has it, else by way of another one, which takes
/// the old file's place.
bool WholeFile::take_name() {
  if (nameless_) {
    const std::string open_file = fmt::format("/proc/self/fd/{}", fd_);
    const auto link_to = [&](const std::filesystem::path& name) {
      return ::linkat(AT_FDCWD, open_file.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
    };
    if (link_to(path_)) return true;
    if (errno != EEXIST || !link_to(pending_)) return false;
    nameless_ = false;
  }
  return ::rename(pending_.c_str(), path_.c_str()) == 0;
}

void WholeFile::commit() {
  if (pending_.empty()) return;  // a device has it already
  const bool done = ::fsync(fd_) == 0 && take_name();
  HEADLENS_CHECK(Error, done, "[{}] file, expected to be finished, got {}", path_.string(),
                 std::strerror(errno));
  pending_.clear();
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  HEADLENS_CHECK(Error, closed, "[{}] file, expected to be closed, got {}", path_.string(),
                 std::strerror(errno));
  sync_folder(path_);
}

void write_whole_file(const std::filesystem::path& path, std::string_view bytes) {
  WholeFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

}  // namespace headlens
