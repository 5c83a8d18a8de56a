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
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  HEADLENS_CHECK(CheckpointError, fd >= 0, "[{}] file, expected to be opened, got {}",
                 path.string(), std::strerror(errno));
  struct stat status = {};
  const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (regular && status.st_size > 0) {
    size_ = static_cast<size_t>(status.st_size);
    // Writable and private, so that an in-place operation on a weight neither crashes nor reaches
    // the file; NORESERVE, so that a checkpoint larger than memory can still be mapped.
    void* const mapped = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                                fd, /*offset=*/0);
    data_ = mapped == MAP_FAILED ? nullptr : static_cast<std::byte*>(mapped);
  }
  const int map_errno = errno;
  ::close(fd);  // the mapping holds the file
  HEADLENS_CHECK(CheckpointError, regular, "[{}] file, expected a regular one, got another kind",
                 path.string());
  HEADLENS_CHECK(CheckpointError, size_ == 0 || data_ != nullptr,
                 "[{}] file, expected to be mapped, got {}", path.string(),
                 std::strerror(map_errno));
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace headlens
