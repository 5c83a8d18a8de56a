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

}  // namespace

WholeFile::WholeFile(const std::filesystem::path& path) : path_(path) {
  static std::atomic<int> counter = 0;
  if (is_device(path)) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    pending_ = path.string() + fmt::format(".{}-{}.tmp", ::getpid(), counter++);
    fd_ = ::open(pending_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  }
  HEADLENS_CHECK(Error, fd_ >= 0, "[{}] file, expected to be created, got {}", path_.string(),
                 std::strerror(errno));
}

WholeFile::~WholeFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!pending_.empty()) ::unlink(pending_.c_str());
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

void WholeFile::commit() {
  if (pending_.empty()) return;  // a device has it already
  const bool synced = ::fsync(fd_) == 0;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  const bool renamed = synced && closed && ::rename(pending_.c_str(), path_.c_str()) == 0;
  HEADLENS_CHECK(Error, renamed, "[{}] file, expected to be finished, got {}", path_.string(),
                 std::strerror(errno));
  pending_.clear();
}

void write_whole_file(const std::filesystem::path& path, std::string_view bytes) {
  WholeFile file(path);
  file.write(bytes.data(), bytes.size());
  file.commit();
}

}  // namespace headlens
