// headlens/cli: one run at a time on one output.
#include "cli/output_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/check.h"

namespace headlens::cli {
namespace {

std::string holder_of(int fd) {
  char text[32] = {};
  const ssize_t got = ::pread(fd, text, sizeof text - 1, 0);
  return got > 0 ? "process " + std::string(text, static_cast<size_t>(got)) : "another process";
}

/// Is the file that was opened still the one of that name? Its last holder takes it away.
bool is_still(int fd, const std::filesystem::path& path) {
  struct stat open_file = {}, named = {};
  return ::fstat(fd, &open_file) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

/// Locks an open file. Error naming who holds it.
void take(int fd, const std::filesystem::path& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return;
  HEADLENS_CHECK(Error, errno == EWOULDBLOCK, "[out] {}, expected to be locked, got: {}",
                 path.string(), std::strerror(errno));
  std::filesystem::path output = path;
  output.replace_extension();  // ".lock"
  HEADLENS_FAIL(Error, "[out] {}, expected no other run to write it, got {} at work",
                output.string(), holder_of(fd));
}

}  // namespace

OutputLock::OutputLock(std::filesystem::path path) : path_(std::move(path)) {
  for (;;) {
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    HEADLENS_CHECK(Error, fd_ >= 0, "[out] {}, expected to be created, got: {}", path_.string(),
                   std::strerror(errno));
    try {
      take(fd_, path_);
    } catch (const Error&) {
      ::close(fd_);
      throw;
    }
    if (is_still(fd_, path_)) break;
    ::close(fd_);
  }
  const std::string own = fmt::format("{}", ::getpid());
  (void)!::ftruncate(fd_, 0);
  (void)!::pwrite(fd_, own.data(), own.size(), 0);  // for the message alone
}

OutputLock::~OutputLock() {
  ::unlink(path_.c_str());
  ::close(fd_);
}

void OutputLock::check_free(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return;  // nobody's
  try {
    take(fd, path);
  } catch (const Error&) {
    ::close(fd);
    throw;
  }
  ::close(fd);
}

}  // namespace headlens::cli
