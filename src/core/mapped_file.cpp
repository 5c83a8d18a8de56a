// headlens/core: a file mapped into memory for as long as an object lives.
#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace headlens {

MappedFile::MappedFile(const std::filesystem::path& path) {
  // A pipe without a writer would keep open() waiting.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  HEADLENS_CHECK(CheckpointError, fd_ >= 0, "[{}] file, expected to be opened, got {}",
                 path.string(), std::strerror(errno));
  struct stat status = {};
  const bool regular = ::fstat(fd_, &status) == 0 && S_ISREG(status.st_mode);
  if (regular && status.st_size > 0) {
    size_ = static_cast<size_t>(status.st_size);
    // Writable and private, so that an in-place operation on a weight neither crashes nor reaches
    // the file; NORESERVE, so that a checkpoint larger than memory can still be mapped.
    void* const place = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                               fd_, /*offset=*/0);
    data_ = place == MAP_FAILED ? nullptr : static_cast<std::byte*>(place);
  }
  const int map_errno = errno;
  const bool mapped = size_ == 0 || data_ != nullptr;
  if (!regular || !mapped) ::close(fd_);  // no destructor runs
  HEADLENS_CHECK(CheckpointError, regular, "[{}] file, expected a regular one, got another kind",
                 path.string());
  HEADLENS_CHECK(CheckpointError, mapped, "[{}] file, expected to be mapped, got {}", path.string(),
                 std::strerror(map_errno));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
  ::close(fd_);
}

bool MappedFile::read(uint64_t offset, std::byte* out, size_t size) const {
  while (size > 0) {
    const ssize_t got = ::pread(fd_, out, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
  return true;
}

void MappedFile::release(uint64_t begin, uint64_t end) const {
  static const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first < last) ::madvise(data_ + first, last - first, MADV_DONTNEED);
}

}  // namespace headlens
